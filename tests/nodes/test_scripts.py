"""How the supervisor ends a worker, whatever disturbs it, under every shell that may be a node's `sh`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from nodes.fakes import OTHER, SERVER, SLEEPER, engines, eventually, on_port, served, supervisor
from processes.shells import ID, SHELLS, Shell, connected, processes_of, short_home

from rbee_ssh.workers.eviction import BODY as EVICT
from rbee_ssh.workers.records import parse
from rbee_ssh.workers.stop import BODY as STOP


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with short_home(request.param) as shell:
        yield shell


@pytest.fixture
def dash() -> Iterator[Shell]:
    with short_home("dash") as shell:
        yield shell


# Prints the exit status as long as it stands there.
WATCH = """
while [ -d "$1" ]; do
    [ ! -e "$1/exit" ] || { read -r S <"$1/exit" && echo "$S"; }
done 2>/dev/null
"""


WAITS = "import time; time.sleep(600)"

# How it ends


@pytest.mark.parametrize(
    ("engine", "status"),
    [("exit 3", 3), ("kill -SEGV $$", 139), ("kill -KILL $$", 137), ("no-such-engine", 127)],
)
def test_the_exit_status_of_an_engine_is_written_down(shell: Shell, engine: str, status: int) -> None:
    seen = shell.start(shell.start_words(f"echo model loading\n{engine}\n"))
    (record,) = {record.id: record for record in seen.records}.values()
    assert (record.state, record.number("exit")) == ("failed", status)
    assert record.log[0] == "model loading"
    eventually(lambda: not processes_of(shell.home), why="something was left running")


@pytest.mark.parametrize(
    ("engine", "status", "forced"),
    [
        (SLEEPER, 143, False),
        ("trap 'exit 7' TERM\necho model loaded\nwhile :; do sleep 0.05; done\n", 7, False),
        ("trap '' TERM\necho model loaded\nwhile :; do sleep 0.05; done\n", 137, True),
    ],
)
def test_a_stop_ends_everything_and_tells_how(shell: Shell, engine: str, status: int, forced: bool) -> None:
    shell.start(shell.start_words(engine))
    watched = shell.popen(WATCH, str(shell.worker()))
    words = [(word, worker) for word, worker, _ in shell.stop(ID, term=1 if forced else 20).results]
    assert words == ([("forced", ID)] if forced else []) + [("stopped", ID)]
    assert set(watched.communicate(timeout=10)[0].split()[1:]) <= {str(status)}
    assert not shell.worker().exists()
    eventually(lambda: not processes_of(shell.home), why="its supervisor has only to end")


def test_a_stop_takes_as_long_as_was_asked_for_however_slow_the_machine(dash: Shell) -> None:
    """Here each nap takes ten times as long."""
    slow = dash.home.parent / "programs/sleep"
    slow.write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.5\n")
    slow.chmod(0o755)
    dash.start(
        dash.start_words(f"trap '' TERM\necho model loaded\nexec {sys.executable} -S -E -c '{WAITS}'\n")
    )
    began = time.monotonic()
    assert [word for word, *_ in dash.stop(ID, term=3).results] == ["forced", "stopped"]
    assert 3 <= time.monotonic() - began < 10, "60 naps are 30 s here"


def test_a_supervisor_that_is_stopped_itself_is_killed_with_its_engine(dash: Shell) -> None:
    dash.start(dash.start_words(SLEEPER))
    os.kill(supervisor(dash), signal.SIGSTOP)
    assert [word for word, *_ in dash.stop(ID, term=1).results] == ["forced", "stopped"]
    assert not dash.worker().exists()
    eventually(lambda: not processes_of(dash.home), why="something was left running")


def test_nothing_is_left_behind_by_many_starts_and_stops(shell: Shell) -> None:
    for _ in range(10):
        shell.start(shell.start_words(SLEEPER, tick=0.02))
        time.sleep(0.03)
        assert [word for word, *_ in shell.stop(ID).results] == ["stopped"]
        assert list((shell.root / "workers").iterdir()) == []
        assert [path.name for path in shell.root.iterdir()] == ["workers"]
    eventually(lambda: not processes_of(shell.home), why="a process was left")


# A supervisor that was disturbed


def test_a_killed_supervisor_is_found_by_the_next_look(shell: Shell) -> None:
    """Also where nothing kills the engine along with it."""
    shell.start(shell.start_words("(trap '' HUP; exec sleep 600) &\necho model loaded\nwait\n"))
    kill_supervisor(shell)
    shell.look()
    eventually(lambda: not engines(shell), why="the engine runs on")
    assert shell.record().state == "dead"


def test_the_ticker_ends_what_a_killed_supervisor_left(shell: Shell) -> None:
    shell.start(shell.start_words("(exec sleep 600) &\necho model loaded\nwait\n", tick=0.2))
    kill_supervisor(shell)
    eventually(lambda: not processes_of(shell.home), why="something runs on")


def test_a_stop_whose_signal_was_lost_is_carried_out(shell: Shell) -> None:
    """The one who marked it was killed, or the supervisor was not yet listening for signals."""
    shell.start(shell.start_words(SLEEPER, tick=0.2))
    (shell.worker() / "stopping").write_text("0 5\n")
    eventually(lambda: not processes_of(shell.home), why="it was never stopped")


def test_a_worker_whose_directory_is_gone_ends(shell: Shell) -> None:
    """Nobody could find it any more."""
    shell.start(shell.start_words(SLEEPER, tick=0.2))
    shell.run("rm -rf ~/.local")
    eventually(lambda: not processes_of(shell.home), within=5, why="it runs where nobody finds it")


def test_the_lease_is_kept_though_somebody_kills_every_sleep(shell: Shell) -> None:
    shell.start(shell.start_words(f"echo model loaded\nexec {sys.executable} -S -E -c '{WAITS}'", tick=0.3))
    for _ in range(3):
        eventually(lambda: [kill(pid) for pid in sleeps(shell)], why="no tick")
    (shell.worker() / "lease").write_text("0\n")
    eventually(lambda: not processes_of(shell.home), within=8, why="nobody counts any more")


def kill_supervisor(shell: Shell) -> None:
    pid = supervisor(shell)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in processes_of(shell.home), why="not killed")


def kill(pid: int) -> int:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return pid


def sleeps(shell: Shell) -> list[int]:
    return [pid for pid, line in processes_of(shell.home).items() if line.startswith("sleep 0.")]


def test_the_log_is_capped_and_the_engine_writes_on(dash: Shell) -> None:
    words = dash.start_words(
        "echo model loaded\nyes spam | head -c 9000000\nwhile :; do echo more; sleep 0.1; done", tick=0.2
    )
    dash.start(words)
    log = dash.worker() / "log"
    eventually((dash.worker() / "log.old").exists, why="not capped")
    eventually(lambda: 0 < log.stat().st_size < 10_000, why="nothing more in the log")
    assert (dash.worker() / "log.old").stat().st_size == 2**20
    eventually(lambda: not (dash.worker() / "log.cut").exists(), why="a copy of the log is left")


# Draining


def test_a_stop_waits_for_a_connection(shell: Shell) -> None:
    path = served(shell)
    with connected(path):
        stop = shell.popen(*stopping(drain=30))
        eventually(lambda: not path.exists(), why="it still takes connections")
        time.sleep(0.3)
        assert engines(shell)
    assert "stopped" in stop.communicate(timeout=10)[0]


def test_now_is_now_though_another_stop_is_draining(shell: Shell) -> None:
    path = served(shell)
    with connected(path):
        patient = shell.popen(*stopping(drain=30))
        eventually((shell.worker() / "stopping").exists, why="no stop")
        time.sleep(0.2)
        began = time.monotonic()
        assert [word for word, *_ in shell.stop(ID).results] == ["stopped"]
        assert time.monotonic() - began < 5
    assert patient.communicate(timeout=10)[0].endswith(f"\t{ID}\n")


def soon_left(words: list[str]) -> list[str]:
    """A start of a worker for which a connection is a stranger's after two ticks instead of half an hour."""
    cap = "1800 / RBEE_TICK"
    assert sum(word.count(cap) for word in words) == 1
    return [word.replace(cap, "2") for word in words]


def left_behind(shell: Shell, lease: int, *, directory: Path | None = None) -> Path:
    """The socket of such a worker: in its own directory, or in another one."""
    run = f"cd {directory or '${0%/*}'}\n" + SERVER
    where = f"{directory}/worker.sock" if directory else ""
    words = soon_left(shell.start_words(run, late=False, lease=lease, tick=0.1, socket=where))
    return Path(shell.start(words).records[-1].text("socket"))


def test_a_connection_that_was_left_behind_does_not_prolong_the_lease(shell: Shell) -> None:
    with connected(left_behind(shell, lease=3600)):
        (shell.worker() / "lease").write_text("5\n")  # not before: it would be over before we are connected
        eventually(lambda: not engines(shell), why="one channel without a client keeps it for ever")


def test_a_connection_to_a_port_does_not_prolong_it_either(shell: Shell) -> None:
    words = soon_left(shell.start_words(on_port("model loaded\nport PORT\n"), socket=None, tick=0.1))
    port = shell.start(words).records[-1].port
    with socket.create_connection(("127.0.0.1", port)):
        assert shell.record().state == "busy"
        (shell.worker() / "lease").write_text("5\n")
        eventually(lambda: not engines(shell), why="one channel without a client keeps it for ever")


@pytest.mark.parametrize("inode", ["a:b[$(>ran)]", "b[$(>ran)]", "*", "7"])
def test_what_another_user_calls_his_socket_is_not_run(shell: Shell, inode: str) -> None:
    """A name may hold a newline, and then /proc/net/unix a line of his own making."""
    path = left_behind(shell, lease=3600, directory=shell.home / "s")
    with socket.socket(socket.AF_UNIX) as his:
        his.bind(f"\0\n1 1 1 0 1 1 {inode} {path}")
        if inode != "7":
            assert shell.record().state == "idle"
        (shell.worker() / "lease").write_text("5\n")
        eventually(lambda: not engines(shell), why="it is kept for ever")
    assert not (shell.worker() / "ran").exists()


def test_a_connection_that_was_left_behind_is_nobody_to_cleanup_and_still_one_to_a_stop(shell: Shell) -> None:
    path = left_behind(shell, lease=3600)
    with connected(path):
        eventually(lambda: shell.record().state == "idle", why="it counts for ever")
        assert [word for word, *_ in shell.cleanup(dry=True).results] == ["stopped"]
        # It may be an answer that takes its time.
        stop = shell.popen(*stopping(drain=30))
        eventually(lambda: not path.exists(), why="it still takes connections")
        time.sleep(0.3)
        assert engines(shell)
    assert "stopped" in stop.communicate(timeout=10)[0]


def stopping(drain: int) -> tuple[str, ...]:
    return STOP, str(drain), "5", ID


def test_a_cleanup_leaves_alone_what_somebody_has_just_asked_for(shell: Shell) -> None:
    """Whose request is still to come; its processor time says nothing of it."""
    served(shell, tick=60)
    for name, text in (("idle", "99\n"), ("cpu", "999999\n"), ("used", "")):
        (shell.worker() / name).write_text(text)
    for dry in (True, False):
        assert [(word, why) for word, _, why in shell.cleanup(dry=dry).results] == [
            ("kept", "used a moment ago")
        ]
    (shell.worker() / "used").unlink()
    assert [word for word, *_ in shell.cleanup(dry=True).results] == ["stopped"]


def test_a_cleanup_leaves_alone_what_has_a_connection(shell: Shell) -> None:
    path = served(shell)
    (shell.worker() / "idle").write_text("99\n")
    with connected(path):
        assert [(word, why) for word, _, why in shell.cleanup().results] == [("kept", "busy")]
        with connected(path):
            pass  # the socket is where it was


def test_who_is_being_stopped_makes_room_as_well(dash: Shell) -> None:
    """Two that want the same idle worker gone both get on, whoever has asked first."""
    engine = "trap 'sleep 1; exit' TERM\necho model loaded\nwhile :; do sleep 0.1; done\n"
    dash.start(dash.start_words(engine))
    first = dash.popen(*stopping(drain=0))
    eventually((dash.worker() / "stopping").exists, why="no stop")
    said = parse(dash.run(EVICT, "5", ID, OTHER).split("\n"))
    assert {word for word, *_ in said.results} <= {"stopped", "unknown"}
    assert [worker for _, worker, _ in said.results] == [ID, OTHER]
    assert not dash.worker().exists() or dash.record().state == "stopped"
    first.communicate(timeout=10)


def test_what_a_start_has_just_found_is_not_retired(shell: Shell) -> None:
    """The lease and the cleanup look at `used` under the lock, where the start has set it."""
    shell.start(shell.start_words(SLEEPER))
    retire = 'rbee_put "$1/cpu" 999; rbee_mark "$1/used"; rbee_retire "$1" idle 5 || echo kept'
    said = shell.lib(f"rbee_lock $$\n{retire}\nrbee_unlock", str(shell.worker()))
    assert said == "kept\n"
    assert engines(shell)
