"""The lock of a node's workers, under every shell that may be its `sh`: one at a time, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes.shells import SHELLS, Shell, boot, ending_processes, identity, make, running

from rbee_ssh.node.scripts import LIB, compose

DEAD = "999999999 1"  # no kernel gives this pid
# Whoever is inside leaves a mark there; two marks at once are one too many.
INSIDE = """
mkdir "$HOME/inside" 2>/dev/null || printf 'two are inside\\n'
%s
rmdir "$HOME/inside"
"""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with ending_processes(make(request.param, tmp_path)) as shell:
        shell.lib(":")
        yield shell


def lock(shell: Shell, inside: str = ":", *, patience: float = 10, before: str = ":") -> str:
    """Takes and gives back the lock; what the scripts said meanwhile."""
    text = f"{before}\nrbee_lock $$ || return\n{INSIDE % inside}\nrbee_unlock"
    body = compose(LIB, then=f"rbee_init || return\n{text}")
    assert body.count('"$RBEE_WAITED" -gt 1000') == 1
    return shell.run(body.replace('"$RBEE_WAITED" -gt 1000', f'"$RBEE_WAITED" -gt {int(patience * 100)}'))


def left(shell: Shell) -> set[str]:
    return {path.name for path in shell.root.iterdir()} - {"workers"}


def test_a_lock_is_taken_and_leaves_nothing(shell: Shell) -> None:
    assert lock(shell) == ""
    assert left(shell) == set()


@pytest.mark.parametrize(
    "holder", [DEAD, f"{os.getpid()} 1", "", "rubbish"], ids=["dead", "reused pid", "empty", "rubbish"]
)
def test_a_dead_holders_lock_is_taken_over_at_once(shell: Shell, holder: str) -> None:
    (shell.root / "lock").symlink_to(f"{holder} {boot()}")
    began = time.monotonic()
    assert lock(shell) == ""
    assert time.monotonic() - began < 8
    assert left(shell) == set()


def test_a_lock_from_before_a_reboot_is_taken_over(shell: Shell) -> None:
    with sleeper() as living:
        (shell.root / "lock").symlink_to(f"{living} another-boot")
        assert lock(shell) == ""
        assert left(shell) == set()


def test_where_sleep_takes_whole_seconds_it_waits_no_longer(shell: Shell) -> None:
    whole = 'sleep() { case $1 in *.*) return 1 ;; esac; echo "$1" >>"$HOME/slept"; }'
    with sleeper() as living:
        (shell.root / "lock").symlink_to(f"{living} {boot()}")
        assert lock(shell, patience=3, before=whole) == f"locked\t{living} {boot()}\n"
    assert (shell.home / "slept").read_text().split() == ["1"] * 4


def test_those_that_died_while_they_took_over_are_no_obstacle(shell: Shell) -> None:
    """One between its claim and the removal of the dead lock, and one that took over from that one."""
    (shell.root / "lock").symlink_to(f"{DEAD} {boot()}")
    for _ in range(2):
        dying = taking_over(shell, "KILL")
        dying.communicate(timeout=10)
        assert dying.returncode == -signal.SIGKILL
    assert "lock" in left(shell)
    began = time.monotonic()
    assert lock(shell) == ""
    assert time.monotonic() - began < 8
    assert left(shell) == set()


def test_one_that_is_taking_over_is_not_disturbed(shell: Shell) -> None:
    (shell.root / "lock").symlink_to(f"{DEAD} {boot()}")
    slow = taking_over(shell, "STOP")
    while state_of(slow.pid) != "T":
        time.sleep(0.01)
    assert lock(shell, patience=0.3) == f"locked\t{DEAD} {boot()}\n"
    os.kill(slow.pid, signal.SIGCONT)
    assert slow.communicate(timeout=10)[0].endswith("through\n")
    assert lock(shell) == ""
    assert left(shell) == set()


def taking_over(shell: Shell, signal_name: str) -> subprocess.Popen[str]:
    """A process that sends itself this signal when it is about to remove the dead lock."""
    body = compose(LIB, then="rbee_init || return\nrbee_lock $$ && rbee_unlock && echo through")
    start = "rbee_break_lock() {\n"
    assert body.count(start) == 1
    trap = f'rm() {{ unset -f rm; kill -{signal_name} $$; rm "$@"; }}\n'
    return shell.popen(body.replace(start, start + trap))


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_place_that_cannot_be_written_is_not_called_locked(shell: Shell) -> None:
    said = shell.lib('ROOT=$ROOT/gone\nrbee_lock $$ || printf "status %s" $?')
    assert said.startswith("problem\tcannot write ")
    assert said.endswith("status 73")


def test_thirty_at_once_are_never_two_inside(shell: Shell) -> None:
    """Thirty after a dead one, and ten several times: the work grows with the square of their number."""
    for size, times in ((30, "1"), (10, "1 2 3 4 5")):
        (shell.root / "lock").symlink_to(f"{DEAD} {boot()}")
        text = f"for N in {times}; do rbee_lock $$ || return\n{INSIDE % ':'}\nrbee_unlock; done; echo through"
        assert [said for said in crowd(shell, text, size) if said != "through\n"] == []
    assert left(shell) == set()


def test_those_who_are_killed_inside_let_the_others_in(shell: Shell) -> None:
    fate = 'case $$ in *[02468]) rmdir "$HOME/inside"; kill -KILL $$ ;; esac'
    text = f"rbee_lock $$ || return\n{INSIDE % fate}\nrbee_unlock; echo through"
    said = crowd(shell, text)
    assert set(said) == {"", "through\n"}
    assert lock(shell) == ""
    assert left(shell) == set()


def crowd(shell: Shell, text: str, size: int = 30) -> list[str]:
    body = compose(LIB, then=f"rbee_init || return\n{text}")
    processes = [shell.popen(body) for _ in range(size)]
    return [process.communicate(timeout=60)[0].split("marker\n", 1)[1] for process in processes]


def test_the_same_process_may_lock_again_and_again(shell: Shell) -> None:
    said = shell.lib("for N in 1 2 3; do rbee_lock $$; rbee_unlock; done; readlink $ROOT/lock || echo gone")
    assert said == "gone\n"


def test_what_another_took_over_is_not_unlocked(shell: Shell) -> None:
    said = shell.lib(
        'rbee_lock $$; rm "$ROOT/lock"; ln -s another "$ROOT/lock"; rbee_unlock; readlink "$ROOT/lock"'
    )
    assert said == "another\n"


@contextmanager
def sleeper() -> Iterator[str]:
    """A living process, as `pid start`."""
    with running("sleep", "60") as process:
        yield identity(process.pid)
