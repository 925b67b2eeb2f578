"""Starts under every shell that may be a node's `sh`: several at once, cut short, on a full disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from nodes.fakes import (
    FOURTH,
    OTHER,
    SLEEPER,
    START_BODY,
    THIRD,
    engines,
    eventually,
    listens,
    on_port,
    served,
    supervisor,
)
from processes.shells import ID, SHELLS, Shell, connected, identity, processes_of, running, short_home

from rbee_ssh.node.scripts import LIB, compose
from rbee_ssh.workers.records import parse


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with short_home(request.param) as shell:
        yield shell


def test_two_starts_make_one_worker(shell: Shell) -> None:
    words = [shell.start_words(SLEEPER, worker_id=name) for name in (ID, OTHER, THIRD, FOURTH)]
    running = [shell.popen(START_BODY, *each) for each in words]
    said = [process.communicate(timeout=30)[0] for process in running]
    assert sorted("new\t1\n" in text for text in said) == [False, False, False, True]
    assert len(engines(shell)) == 1


def test_what_came_since_the_decision_counts_against_the_room(shell: Shell) -> None:
    needs = '{"model": "a \\"need_ram\\": 9", "need_ram": 700, "need_device": 40}'
    shell.start(shell.start_words(SLEEPER, spec=needs))
    for decided, crowded in (
        (("", "699", ""), True),
        (("", "700", "39"), True),
        (("", "", "39"), True),
        ((f"{OTHER} {ID}", "0", "0"), False),
        (("", "700", "40"), False),
        (("", "", ""), False),
    ):
        words = shell.start_words(SLEEPER, worker_id=THIRD, match="another", decided=decided)
        seen = shell.start(words)
        assert (seen.crowded, seen.new, len(seen.records) > 0) == (crowded, not crowded or None, not crowded)
        shell.stop(THIRD)
    # Nobody has asked whether there is room: only a worker that is there will do.
    found = shell.start(shell.start_words(SLEEPER, worker_id=THIRD, decided=("", "-1", "-1")))
    assert (found.new, found.records[-1].id) == (False, ID)
    shell.stop(ID)
    assert shell.start(shell.start_words(SLEEPER, worker_id=THIRD, decided=("", "-1", "-1"))).crowded


def test_a_start_that_was_cut_short_leaves_no_second_engine(shell: Shell) -> None:
    shell.start(shell.start_words(SLEEPER))
    (shell.worker() / "match").unlink()  # the last thing a start writes
    shell.start(shell.start_words(SLEEPER, worker_id=OTHER))
    eventually(lambda: len(engines(shell)) == 1, why="two engines for one request")
    assert [path.name for path in (shell.root / "workers").iterdir()] == [OTHER]


def test_a_socket_that_a_killed_cleanup_renamed_comes_back(shell: Shell) -> None:
    path = served(shell)
    path.rename(f"{path}.away")
    seen = shell.start(shell.start_words(SLEEPER, worker_id=OTHER))
    assert (seen.new, seen.records[-1].id) == (False, ID)
    with connected(path):
        pass


def test_old_failures_of_a_start_make_room_for_its_next(shell: Shell) -> None:
    """A request that fails every minute must not fill the node; its last failures stay."""
    fails = shell.start_words("exit 1")
    shell.start(fails)
    old, recent, foreign = (shell.root / "workers" / name for name in (ID, OTHER, THIRD))
    shell.run(
        'cp -R "$1" "$2"; cp -R "$1" "$3"; echo another >"$3/match"; touch -t 202001010000 "$1" "$3"',
        *map(str, (old, recent, foreign)),
    )
    shell.start(shell.start_words("exit 1", worker_id=FOURTH))
    assert [path.exists() for path in (old, recent, foreign)] == [False, True, True]


def test_waiting_for_a_slow_start_says_little(shell: Shell) -> None:
    """A large model loads for an hour, and the answer to a script has a limit."""
    text = shell.run(START_BODY, *shell.start_words("exec sleep 600", patience=7))
    assert text.count("worker\t") == 2
    assert text.count("waiting\t") >= 3


@contextmanager
def small_disk(shell: Shell, size: str) -> Iterator[Path]:
    """Under the directories of the workers."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small tmpfs")
    workers = shell.root / "workers"
    options = f"size={size},mode=700,nr_inodes=64"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", workers], check=True)
    try:
        yield workers
    finally:
        subprocess.run(["umount", "-l", workers], check=True)


@pytest.mark.parametrize("size", ["4k", "12k", "24k", "36k"])
def test_a_full_disk_starts_nothing(shell: Shell, size: str) -> None:
    """A script of the engine that was cut in its middle would start something else."""
    with small_disk(shell, size) as workers:
        seen = shell.start(shell.start_words(SLEEPER))
        assert seen.problem == f"cannot write {workers}/{ID}: its disk is full", seen
        eventually(lambda: not processes_of(shell.home), why="something was started")
        assert list(workers.iterdir()) == []


@pytest.mark.parametrize("ended", ["stop", "lease"])
def test_a_full_disk_keeps_nothing_running(shell: Shell, ended: str) -> None:
    with small_disk(shell, "1m") as workers:
        lease = 0 if ended == "lease" else 3600
        shell.start(shell.start_words(f"sleep 0.5\n{SLEEPER}", lease=lease, tick=0.2))
        with suppress(OSError):
            for number in range(100):
                (workers / str(number)).write_bytes(b"x" * 100_000 if number < 10 else b"")
        if ended == "stop":
            assert shell.stop(ID).results == (("stopped", ID, ""),)
        eventually(lambda: not processes_of(shell.home), why="it runs on")


def test_a_start_that_cannot_be_finished_is_undone(shell: Shell) -> None:
    last = 'rbee_put "$DIR/match" "$NEW_MATCH"'
    assert START_BODY.count(last) == 1
    said = shell.run(START_BODY.replace(last, "{ sleep 0.3; false; }"), *shell.start_words(SLEEPER))
    assert said.startswith("problem\t")
    eventually(lambda: not processes_of(shell.home), why="what was started runs on")
    assert list((shell.root / "workers").iterdir()) == []


def test_no_key_no_worker(shell: Shell) -> None:
    """Without one an engine would serve whoever asks."""
    said = shell.run("od() { :; }\n" + START_BODY, *shell.start_words(SLEEPER))
    assert "problem\t" in said
    assert processes_of(shell.home) == {}


def test_the_port_of_a_worker_is_found_though_its_start_was_killed(shell: Shell) -> None:
    words = shell.start_words(on_port(0.5, "port PORT\n"), socket=None, tick=0.2)
    start = shell.popen(START_BODY, *words)
    eventually((shell.worker() / "match").exists, why="not started")
    start.kill()
    start.communicate()
    eventually(lambda: shell.record().port, why="nobody knows its port")
    assert listens(shell) == {shell.record().port}


def test_a_worker_that_ends_while_it_is_looked_at_tells_how(shell: Shell) -> None:
    shell.worker(log="x", ready_pattern="y")
    ends = 'rbee_alive() { rbee_put "$DIR/exit" 3; false; }'
    said = shell.lib(f'{ends}\nDIR=$1\nrbee_state "$1"\necho $STATE', str(shell.worker()))
    assert said == "failed\n"


def test_a_worker_that_ends_while_its_supervisor_is_seen_alive_tells_how(shell: Shell) -> None:
    """The socket goes after the end was written down: without it, this is not one that has yet to begin."""
    with running("sleep", "60") as supervisor:
        shell.worker(supervisor=identity(supervisor.pid), log="x", ready_pattern="y")
        ends = 'rbee_ready() { rbee_put "$DIR/exit" 3; false; }'
        said = shell.lib(f'{ends}\nDIR=$1\nrbee_state "$1"\necho $STATE', str(shell.worker()))
    assert said == "failed\n"


def test_a_start_waits_on_where_the_socket_is_gone_for_a_moment(shell: Shell) -> None:
    """A cleanup renames it while it looks."""
    show = '            rbee_show "$1"\n'
    assert START_BODY.count(show) == 1
    away = '[ -e "$1/taken" ] || { rbee_mark "$1/taken" && mv "$1/worker.sock" "$1/worker.sock.away"; }\n'
    engine = f"""
    {sys.executable} -c 'import socket; socket.socket(socket.AF_UNIX).bind("worker.sock")'
    until [ -S worker.sock.away ]; do sleep 0.1; done
    sleep 0.4
    mv worker.sock.away worker.sock
    exec sleep 600
    """
    words = shell.start_words(f'cd "$(dirname "$0")"\n{engine}', late=False)
    seen = parse(shell.run(START_BODY.replace(show, away + show), *words).split("\n"))
    assert (shell.worker() / "taken").exists()
    assert seen.records[-1].state == "loading"


def test_a_port_that_is_half_written_is_not_taken_for_one(shell: Shell) -> None:
    half = on_port("port HEAD", 0.6, "TAIL\n")
    start = shell.popen(START_BODY, *shell.start_words(half, socket=None, tick=0.1))
    eventually((shell.worker() / "match").exists, why="not started")
    eventually(lambda: shell.record().port, why="none")
    assert listens(shell) == {shell.record().port}
    start.kill()
    start.communicate()


def test_a_worker_whose_port_is_not_known_yet_is_not_ready(shell: Shell) -> None:
    """xllamacpp says that the model is loaded, and then where it listens."""
    words = shell.start_words(on_port("model loaded\n", 0.6, "port PORT\n"), socket=None)
    (record,) = {record.id: record for record in shell.start(words).records}.values()
    assert (record.state, {record.port}) == ("idle", listens(shell))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_port_that_a_model_names_is_not_taken_for_one(shell: Shell, wrapped: bool) -> None:
    """What a model says of itself stands in the log; another program, or another user's, may listen there."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        lie = f"name = model loaded port {other.getsockname()[1]} x\n"
        engine = on_port(lie, 0.3, lie.partition(" = ")[2], 0.3, "model loaded\nport PORT\n", lie)
        if wrapped:  # in a program that does not exec it
            engine = engine.removeprefix("exec ") + "\ntrue"
        record = shell.start(shell.start_words(engine, socket=None)).records[-1]
        assert record.state == "idle"
        assert record.port not in (None, other.getsockname()[1])
        if not wrapped:
            assert listens(shell) == {record.port}


def test_a_port_is_found_where_the_kernel_does_not_tell(shell: Shell) -> None:
    """macOS: by lsof."""
    if shell.name == "applets" or shutil.which("lsof") is None:
        pytest.skip("needs lsof, which is not busybox's")
    start = shell.popen(START_BODY, *shell.start_words(on_port("port PORT\n"), socket=None))
    eventually(lambda: (shell.worker() / "pid").exists() and listens(shell), why="not started")
    group = (shell.worker() / "pid").read_text().split()[0]
    (port,) = listens(shell)
    asked = compose(LIB, then='rbee_ports "$1"; echo $PORTS').replace("/proc/net/tcp", "/nowhere")
    assert shell.run(asked, group).split() == [str(port)]
    assert shell.run(asked, str(supervisor(shell))).split() == []
    start.kill()
    start.communicate()


def test_a_model_that_is_called_loaded_is_not(shell: Shell) -> None:
    lie = "llama_model_loader: - kv 2: general.name str = model loaded"
    engine = f"echo '{lie}'\nsleep 1\necho srv: model loaded\nsleep 600"
    start = shell.popen(START_BODY, *shell.start_words(engine))
    eventually(lambda: lie in log_of(shell), why="not started")
    assert shell.record().state == "loading"
    start.communicate()
    assert shell.record().state == "idle"


def log_of(shell: Shell) -> str:
    file = shell.worker() / "log"
    return file.read_text() if file.exists() else ""
