"""What the scripts of a node share, under every shell that may be its `sh`: files and states."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes.shells import ID, SHELLS, Shell, boot, connected, identity, listening, running, short_home

from rbee_ssh.node.scripts import LIB, compose
from rbee_ssh.workers.records import parse


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with short_home(request.param) as shell:
        yield shell


# rbee_init


def test_a_state_home_that_is_not_absolute_is_ignored(shell: Shell) -> None:
    """As the XDG specification has it; the supervisor works in another directory and would not find it."""
    assert shell.lib("printf %s $ROOT", env={"XDG_STATE_HOME": "here"}) == str(shell.root)
    assert shell.lib("printf %s $ROOT", env={"XDG_STATE_HOME": f"{shell.home}/x"}).startswith(
        f"{shell.home}/x/"
    )


def test_the_tools_of_an_administrator_are_found_from_cron(shell: Shell) -> None:
    """macOS has sysctl and ioreg in /usr/sbin, and its cron leaves that out of PATH."""
    path = shell.path.removesuffix(":/usr/sbin:/sbin")
    bare = Shell(shell.name, shell.home, path)
    assert "/usr/sbin" in bare.lib("printf %s $PATH").split(":")


# rbee_put, rbee_get


def test_a_reader_never_sees_half_a_value(shell: Shell) -> None:
    values = ["a" * 3000, "b" * 3000]
    writer = shell.popen(
        compose(LIB, then='for N in 1 2 3 4 5 6 7 8 9 10; do rbee_put v "$1"; rbee_put v "$2"; done'), *values
    )
    file = shell.home / "v"
    while writer.poll() is None:
        if file.exists():
            assert file.read_text().rstrip("\n") in values
    writer.communicate()
    assert sorted(os.listdir(shell.home)) == [".local", "v"]


@pytest.mark.parametrize("text", ["x\n", "x", "x\ny\n", " a  b\\n'\"$(id) \n", "-n\n"])
def test_a_value_is_the_first_line_as_it_stands(shell: Shell, text: str) -> None:
    (shell.home / "v").write_text(text)
    assert shell.lib('rbee_get v; printf "%s|" "$GOT"') == text.partition("\n")[0] + "|"


def test_what_is_not_there_is_empty(shell: Shell) -> None:
    assert shell.lib('GOT=x; rbee_get nothing; printf "%s|%s" "$GOT" $?') == "|0"


# rbee_state


def state(shell: Shell) -> str:
    return shell.lib('rbee_state "$1"; printf %s $STATE', str(shell.worker()))


def test_every_state_as_its_files_tell_it(shell: Shell) -> None:
    directory = shell.worker(socket=f"{shell.home}/s", ready_pattern="model loaded", log="")
    assert state(shell) == "dead"
    with running("sleep", "60", start_new_session=True) as process:
        living = identity(process.pid)
        (directory / "pid").write_text(living)
        assert state(shell) == "orphan"
        (directory / "supervisor").write_text(living)
        assert state(shell) == "starting"
        with listening(shell.home / "s") as listener:
            assert state(shell) == "loading"
            (directory / "log").write_text("x\nthe model loaded at last\n")
            assert state(shell) == "idle"
            with connected(shell.home / "s"):
                assert state(shell) == "busy"
            listener.accept()[0].close()
        (directory / "stopping").write_text("0 30\n")
        assert state(shell) == "stopping"
        (directory / "boot").write_text("another\n")
        assert state(shell) == "dead"
    (directory / "boot").write_text(boot() + "\n")
    (directory / "exit").write_text("0\n")
    assert state(shell) == "stopped"
    (directory / "stopping").unlink()
    assert state(shell) == "dead"
    (directory / "ready").unlink()
    assert state(shell) == "failed"


def test_a_record_that_is_being_removed_is_of_a_worker_that_was_stopped(shell: Shell) -> None:
    """Its files go one by one, and what is left of them would say that it died."""
    directory = shell.worker(boot=boot(), exit="143", stopping="0 5", ready="")
    shell.lib(
        'rm() { [ "$1" != -rf ] && command rm "$@"; }; rbee_nap() { :; }; rbee_forget "$1"', str(directory)
    )
    for name in ("stopping", "exit", "boot"):
        (directory / name).unlink()
        assert state(shell) == "stopped", name
    assert shell.look().records == ()


def test_a_record_that_is_removed_while_it_is_shown_is_of_one_that_was_stopped(shell: Shell) -> None:
    directory = shell.worker(boot=boot(), exit="143")
    gone = 'rbee_get() { command rm -rf "$DIR"; GOT=; }'
    said = shell.lib(f'DIR=$1; rbee_state() {{ STATE=loading; {gone}; }}; rbee_show "$DIR"', str(directory))
    (record,) = parse(said.split("\n")).records
    assert record.state == "stopped"


def test_a_pid_of_a_boot_before_is_left_alone(shell: Shell) -> None:
    """Its start is counted from the boot, so another process can have the same."""
    with running("sleep", "60", start_new_session=True) as innocent:
        shell.worker(boot="another", pid=identity(innocent.pid), log="", ready_pattern="x")
        assert [word for word, *_ in shell.cleanup().results] == ["pruned"]
        assert innocent.poll() is None
    assert not shell.worker().exists()


def test_an_engine_that_has_no_group_yet_is_ended_too(shell: Shell) -> None:
    """Between the fork and setsid."""
    with running("sleep", "60") as engine:
        shell.worker(pid=identity(engine.pid), log="", ready_pattern="x")
        assert shell.record().state == "failed"
        assert engine.wait(timeout=5) == -9


# rbee_alone

STRANGER = 65533


def plain(path: Path, mode: int = 0o700, *, uid: int = 0) -> Path:
    """A directory, and those above it; the last one of this user and mode."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, uid, uid)
    return path


def below_another(top: Path) -> Path:
    plain(top / "open", 0o1777)
    plain(top / "open/his", 0o755, uid=STRANGER)
    return plain(top / "open/his/mine")


def a_link(top: Path) -> Path:
    plain(top / "mine")
    (top / "link").symlink_to(top / "mine")
    return top / "link"


def through_a_link(top: Path, uid: int) -> Path:
    plain(top / "real/mine")
    plain(top / "open", 0o1777)
    (top / "open/link").symlink_to(top / "real")
    os.lchown(top / "open/link", uid, uid)
    return top / "open/link/mine"


@pytest.mark.parametrize(
    ("make", "alone"),
    [
        (lambda top: plain(top / "mine"), True),
        (lambda top: plain(top / "a b/$(id)/mine"), True),
        (lambda top: plain(top / "mine", 0o755), False),
        (lambda top: plain(top / "mine", 0o770), False),
        (lambda top: top / "nothing", False),
        (lambda top: plain(top / "mine", uid=STRANGER), False),
        (a_link, False),
        (lambda top: plain(plain(top / "open", 0o777) / "mine"), False),
        (lambda top: plain(plain(top / "open", 0o1777) / "mine"), True),
        (lambda top: plain(plain(top / "group", 0o775, uid=STRANGER) / "mine"), True),
        (below_another, False),
        (lambda top: through_a_link(top, 0), True),
        (lambda top: through_a_link(top, STRANGER), False),
    ],
)
def test_whether_a_directory_is_ours_alone(shell: Shell, make: Callable[[Path], Path], alone: bool) -> None:
    """Nobody but we may look into it, and no stranger may put another one in its place."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes directories of another user")
    place = make(shell.home / "top")
    assert shell.lib('rbee_alone "$1"; echo $?', str(place)) == ("0\n" if alone else "1\n")


# rbee_own


@pytest.fixture
def private() -> Iterator[Path]:
    """As /tmp/rbee-UID, where a worker of an older version has its socket."""
    place = Path(tempfile.mkdtemp(prefix="rbee-", dir="/tmp"))
    yield place
    shutil.rmtree(place)


def own(shell: Shell, way: object) -> bool:
    return shell.lib('rbee_own "$ROOT/workers/$1" "$2"; echo $?', ID, str(way)) == "0\n"


def test_a_socket_in_tmp_is_known_and_removed(shell: Shell, private: Path) -> None:
    path = private / f"{ID}.sock"
    with running("sleep", "60", start_new_session=True) as process, listening(path):
        living = identity(process.pid)
        shell.worker(socket=str(path), ready_pattern="x", log="x", supervisor=living, pid=living)
        assert own(shell, path)
        assert not own(shell, private / "other.sock")
        assert not own(shell, 4711)
        private.chmod(0o755)
        assert not own(shell, path)
        private.chmod(0o700)
        (shell.worker() / "stopping").write_text("0 5\n")
        assert not own(shell, path)
    shell.lib('rbee_forget "$1"', str(shell.worker()))
    assert list(private.iterdir()) == []


def test_what_another_user_has_in_its_place_is_left_alone(shell: Shell, private: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a directory of another user")
    path = private / f"{ID}.sock"
    os.chown(private, STRANGER, STRANGER)
    with running("sleep", "60", start_new_session=True) as process, listening(path):
        living = identity(process.pid)
        shell.worker(socket=str(path), ready_pattern="x", log="x", supervisor=living, pid=living)
        assert not own(shell, path)
        # Where what is moved there would end up.
        (private / f"{ID}.sock.away").symlink_to(shell.home)
        shell.lib('rbee_retire "$1" 0 5', str(shell.worker()))
        assert path.exists()
        assert not (shell.home / path.name).exists()
    shell.lib('rbee_forget "$1"', str(shell.worker()))
    assert sorted(each.name for each in private.iterdir()) == [f"{ID}.sock", f"{ID}.sock.away"]


# rbee_show


def test_the_last_words_of_an_engine_are_shown_without_a_newline_too(shell: Shell) -> None:
    shell.worker(exit="1", ready_pattern="x")
    (shell.worker() / "log").write_bytes(b"first\nout of \x1b[31mmemory\xff")
    assert shell.record().log == ("first", "out of [31mmemory�")


def test_the_log_of_many_failures_is_short(shell: Shell) -> None:
    shell.worker(exit="1", ready_pattern="x")
    (shell.worker() / "log").write_text("y" * 3_000_000 + "\n")
    assert sum(map(len, shell.record().log)) <= 8192


def test_names_and_values_of_any_kind_do_no_harm(shell: Shell) -> None:
    shell.worker(exit="1", ready_pattern="x", log="")
    for name in ("a b", "$(touch pwned)", "-rf", "x\nstate\tidle", "é"):
        odd = shell.root / "workers" / name
        odd.mkdir()
        (odd / "match").write_text("$(touch pwned)\n`touch pwned`\n")
    (shell.root / "workers" / "link").symlink_to("/etc")
    (shell.root / "workers" / "file").write_text("")
    assert [record.id for record in shell.look().records] == [ID]
    assert not (shell.home / "pwned").exists()


# rbee_memory


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_memory_of_a_group_counts_its_children(shell: Shell, wrapped: bool) -> None:
    """A wrapper that does not exec its engine holds next to nothing itself."""
    hungry = "import time; x = bytearray(30 * 2**20); print(1, flush=True); time.sleep(60)"
    text = f"'{sys.executable}' -c '{hungry}'; true" if wrapped else f"exec '{sys.executable}' -c '{hungry}'"
    with running("sh", "-c", text, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own, files, peak = map(int, shell.lib(f'rbee_memory {process.pid}; printf %s "$MEMORY"').split())
        process.stdout.close()
    assert 30 * 1024 < own < 60 * 1024
    assert own + files <= peak + 1024


def test_the_memory_of_nobody_is_empty(shell: Shell) -> None:
    for pid in ("999999999", ""):
        assert shell.lib(f'rbee_memory "{pid}"; printf "[%s]" "$MEMORY"') == "[]"
