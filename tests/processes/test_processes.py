"""How the scripts of a node know processes and connections, under every shell that may be its `sh`."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.shells import SHELLS, Shell, connected, identity, listening, running, short_home

from rbee_ssh.node.scripts import LIB, compose


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with short_home(request.param) as shell:
        yield shell


# rbee_started


@pytest.mark.parametrize("name", ["plain", "a ) S 1 (b", ") Z 1 1", "a\nb"])
def test_a_process_is_known_by_its_start_whatever_it_is_called(shell: Shell, name: str) -> None:
    program = shell.home / name
    shutil.copy(str(shutil.which("sleep")), program)
    with running(program, "60") as process:
        said = shell.lib('rbee_started "$1" && printf "%s" "$STARTED"', str(process.pid))
        assert said == identity(process.pid).split()[1]


def test_a_zombie_and_a_pid_of_nobody_have_ended(shell: Shell) -> None:
    with running("true") as process:
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        for pid in (str(process.pid), "999999999", ""):
            assert shell.lib('rbee_started "$1" || printf "ended%s" "$STARTED"', pid) == "ended"


def test_without_proc_a_start_is_the_same_in_every_time_zone(shell: Shell) -> None:
    """ps tells it in local time, and a laptop travels."""
    if shell.name == "applets":
        pytest.skip("has no ps that knows lstart")
    body = compose(LIB).replace("/proc/", "/no/proc/")
    told = {
        shell.run(f'{body}\nrbee_started "$1"; printf %s "$STARTED"', str(os.getpid()), env={"TZ": zone})
        for zone in ("UTC0", "Asia/Tokyo", "America/New_York", "XYZ-5")
    }
    assert len(told) == 1
    assert "" not in told


# rbee_cpu


def test_the_cpu_time_of_a_group_is_that_of_its_children_too(shell: Shell) -> None:
    command = ["sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 60"]
    with running("sh", "-c", '"$@" & wait', "-", *command, start_new_session=True) as group:
        while int(shell.lib("rbee_cpu $1; printf %s $CPU", str(group.pid))) < 5:
            time.sleep(0.05)


def test_a_process_without_children_is_not_looked_for_among_all(shell: Shell) -> None:
    """Thousands of processes are nothing special on a machine with many cores, and this is done every 5 s."""
    busy = ["sh", "-c", "i=0; while :; do i=$((i+1)); done"]
    no_scan = "awk() { echo scanned >&2; }\nrbee_cpu $1; printf %s $CPU"
    with running(*busy, start_new_session=True) as process:
        while (own := int(shell.lib(no_scan, str(process.pid)))) < 5:
            time.sleep(0.05)
        group = int(shell.lib("rbee_childless() { false; }\nrbee_cpu $1; printf %s $CPU", str(process.pid)))
        assert own <= group


def test_months_of_cpu_time_are_a_plain_number(shell: Shell, tmp_path: Path) -> None:
    """Beyond 2^31 ticks, which is 248 days of one core, some awk say 2.14748e+09."""
    nobody = 999999999
    for pid, ticks in (("5", 2**31), ("6", 2**34)):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(
            f"{pid} (x y) S 1 {nobody} {nobody} 0 -1 0 0 0 0 0 {ticks} 1 0 0 20 0 1 0 9 0\n"
        )
    body = compose(LIB).replace("/proc/[0-9]", f"{tmp_path}/[0-9]")
    assert shell.run(f"{body}\nrbee_cpu {nobody}; printf %s $CPU") == str(2**31 + 2**34 + 2)


# rbee_connections


def connections(shell: Shell) -> int:
    return len(shell.lib('rbee_connections "$1"; printf %s "$CONNS"', str(shell.worker())).split())


def test_accepted_and_waiting_connections_count_and_the_listener_does_not(shell: Shell) -> None:
    path = shell.home / "s"
    shell.worker(socket=str(path))
    with listening(path) as listener:
        assert connections(shell) == 0
        with connected(path):
            assert connections(shell) == 1
            accepted, _ = listener.accept()
            path.rename(shell.home / "s.away")
            assert connections(shell) == 1, "its name stays what it was"
            accepted.close()
        assert connections(shell) == 0


@pytest.mark.parametrize("name", ["back\\nslash", "two  blanks", "&", "[a]*", "é"])
def test_a_path_is_compared_as_it_stands(shell: Shell, name: str) -> None:
    path = shell.home / name
    shell.worker(socket=str(path))
    with listening(path), connected(path):
        assert connections(shell) == 1


def test_a_socket_of_another_that_ends_in_our_path_is_not_ours(shell: Shell) -> None:
    """Another user can make directories of any name, and bind what looks like ours at the line's end."""
    shell.worker(socket="/tmp/o/s")
    theirs = shell.home / "x " / "tmp/o/s"
    theirs.parent.mkdir(parents=True)
    with listening("x /tmp/o/s", at=shell.home), connected(theirs):
        assert connections(shell) == 0


def test_a_connection_to_a_port_counts_on_the_address_of_the_worker_only(shell: Shell) -> None:
    with socket.socket() as listener, socket.socket() as other, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        other.bind(("127.0.0.2", port))
        other.listen()
        shell.worker(port=str(port))
        client.connect(("127.0.0.2", port))
        assert connections(shell) == 0
        with socket.create_connection(("127.0.0.1", port)):
            assert connections(shell) == 1
