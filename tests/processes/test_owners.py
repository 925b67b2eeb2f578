"""owners.sh under every shell: whose the files of a store are, what is proven of them, where is written."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes.shells import SHELLS, Shell, ending_processes, make

from rbee_ssh.models.prove import PROVE, STORE
from rbee_ssh.node.scripts import LIB, OWNERS, compose

OTHER = 54321  # somebody else's number
ROOT_NEEDED = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
SHA256 = hashlib.sha256(b"GGUF").hexdigest()


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with ending_processes(make(request.param, tmp_path)) as shell:
        yield shell


def store(shell: Shell) -> Path:
    return shell.home / "a [store]"


def a_file(shell: Shell) -> Path:
    path = store(shell) / "local/x y/m.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    return path


def asked(shell: Shell, text: str, *args: str) -> str:
    """What it prints in the store's place."""
    body = compose(LIB, OWNERS, STORE, then=f'rbee_init || return\nrbee_store "$1"\n{text}')
    return shell.run(body, str(store(shell)), *args).strip()


def closed(shell: Shell, path: Path) -> bool:
    return asked(shell, 'rbee_closed "$2" && echo closed', str(path)) == "closed"


def test_what_is_ours_alone_is_closed(shell: Shell) -> None:
    path = a_file(shell)
    assert closed(shell, path)
    store(shell).chmod(0o1777)
    assert closed(shell, path), "a sticky directory keeps what is ours"
    path.parent.chmod(0o700)
    path.chmod(0o600)
    assert closed(shell, path)
    assert not closed(shell, path.with_name("none.gguf"))
    assert not closed(shell, Path("/etc/passwd")), "not of the store"


@pytest.mark.parametrize("at", ["store", "local", "leaf", "file"])
@pytest.mark.parametrize("how", ["group", "others", "link", pytest.param("owner", marks=ROOT_NEEDED)])
def test_what_others_could_change_is_not_closed(shell: Shell, at: str, how: str) -> None:
    path = a_file(shell)
    target = {"store": store(shell), "local": store(shell) / "local", "leaf": path.parent, "file": path}[at]
    if how == "owner":
        os.chown(target, OTHER, OTHER)
    elif how == "link":
        if at == "store":
            pytest.skip("the user may have named a link")
        target.rename(shell.home / "elsewhere")
        target.symlink_to(shell.home / "elsewhere")
    else:
        target.chmod(target.stat().st_mode | (0o020 if how == "group" else 0o002))
    assert not closed(shell, path)


def test_a_system_whose_stat_says_something_else_proves_nothing(shell: Shell) -> None:
    path = a_file(shell)
    for said in ("", "  File: x\n  ID: 0", "0 drwxr-xr-x", "0 drwxr-xr-x 1:1\n" * 9):
        text = f'stat() {{ printf %s {said!r}; }}\nrbee_closed "$2" && echo closed'
        assert asked(shell, text.replace("\\n", "\n"), str(path)) == "", said


def enter(shell: Shell, place: str = "local/x", umask: str = "022") -> str:
    return asked(shell, '(rbee_enter "$2" "$3" && pwd -P) || echo "$REASON $REFUSED"', place, umask)


def test_directories_are_made_where_they_are_missing(shell: Shell) -> None:
    assert enter(shell, "hf/o/r/x", "077") == str(store(shell) / "hf/o/r/x")
    modes = [path.stat().st_mode & 0o777 for path in (store(shell) / "hf", store(shell) / "hf/o/r/x")]
    assert modes == [0o755, 0o700]
    assert enter(shell, "hf/o/r/x") == str(store(shell) / "hf/o/r/x")


def test_a_directory_that_another_command_makes_meanwhile_is_ours(shell: Shell) -> None:
    """Between the two ways to ask `stat`, of which the second says something else on Linux."""
    text = (
        'stat() { command stat "$@"; set -- "$?"; (umask 022; mkdir -p "$STORE/local/x"); return "$1"; }\n'
        '(rbee_enter local/x 022 && pwd -P) || echo "$REASON $REFUSED"'
    )
    assert asked(shell, text) == str(store(shell) / "local/x")


@pytest.mark.parametrize("at", ["local", "local/x"])
def test_a_link_is_not_followed(shell: Shell, at: str) -> None:
    elsewhere = shell.home / "elsewhere/x"
    elsewhere.mkdir(parents=True)
    link = store(shell) / at
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere if at == "local/x" else elsewhere.parent)
    text = (
        '(rbee_enter local/x 022) && echo in; rbee_enter local/x 022 || printf "%s %s" "$REASON" "$REFUSED"'
    )
    assert asked(shell, text) == f"foreign {link}"


@pytest.mark.parametrize("what", ["open", "file", pytest.param("theirs", marks=ROOT_NEEDED)])
def test_a_directory_that_is_not_ours_alone_is_refused(shell: Shell, what: str) -> None:
    path = store(shell) / "local/x"
    path.parent.mkdir(parents=True)
    if what == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o775 if what == "open" else 0o755)
    if what == "theirs":
        os.chown(path, OTHER, OTHER)
    text = 'rbee_enter local/x 022 || printf "%s %s" "$REASON" "$REFUSED"'
    assert asked(shell, text) == f"foreign {path}"


def test_a_link_that_comes_between_the_look_and_the_step_is_seen(shell: Shell) -> None:
    """The look is at a directory, and `cd` finds a link to another one of ours."""
    elsewhere = shell.home / "elsewhere"
    elsewhere.mkdir()
    (store(shell) / "local").mkdir(parents=True)
    body = compose(LIB, OWNERS, STORE, then='rbee_init || return\nrbee_store "$1"\n')
    at = 'cd -P "./$1"'
    assert body.count(at) == 1
    local = store(shell) / "local"
    swap = f"mv '{local}' '{local}.away'; ln -s '{elsewhere}' '{local}'; {at}"
    text = 'rbee_enter local 022 || printf "%s %s" "$REASON" "$REFUSED"'
    said = shell.run(body.replace(at, swap) + text, str(store(shell)))
    assert said == f"foreign {local}"


def prove(shell: Shell, path: Path, sha256: str = SHA256) -> list[str]:
    said = shell.run(compose(LIB, OWNERS, STORE, PROVE), str(store(shell)), sha256, str(path))
    return [line.split("\t")[0] for line in said.splitlines()]


def proven(shell: Shell, path: Path, sha256: str = SHA256) -> str:
    return asked(shell, 'rbee_proven "$2" "$3" && echo yes || echo "no $DOUBT"', str(path), sha256)


def changed_but_for_its_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"GGU!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before = path.stat()
    (path.parent / "new").write_bytes(b"GGU!")
    (path.parent / "new").rename(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def a_link(path: Path) -> None:
    path.rename(path.parent / "real")
    path.symlink_to("real")


@pytest.mark.parametrize("change", [changed_but_for_its_size_and_time, replaced, a_link])
def test_a_proof_holds_until_the_file_changes(shell: Shell, change: Callable[[Path], None]) -> None:
    path = a_file(shell)
    assert proven(shell, path) == f"no {path}"
    assert prove(shell, path) == ["reading", "same"]
    assert proven(shell, path) == "yes"
    assert proven(shell, path, "0" * 64) == "no", "that it is another one is known, too"
    assert proven(shell, path, "") == "yes", "where nobody has told a sum"
    time.sleep(0.01)
    change(path)
    assert proven(shell, path) == f"no {path}"
    assert proven(shell, path, "") == "no"


def in_place(shell: Shell, path: Path, *words: str) -> str:
    return asked(shell, 'rbee_in_place "$2" 4 "$3" "$4" && echo yes || echo "no $DOUBT"', str(path), *words)


def test_a_note_counts_where_nobody_else_may_write_and_a_proof_elsewhere(shell: Shell) -> None:
    path, other = a_file(shell), "0" * 64
    note = Path(f"{path}.json")
    note.write_text(f'{{"sha256":"{other}","revision":"e"}}\n')
    assert [in_place(shell, path, sha256, "") for sha256 in (other, SHA256)] == ["yes", "no"]
    assert [in_place(shell, path, "", etag) for etag in ("e", "f", "")] == ["yes", "no", "yes"]
    path.parent.chmod(0o777)
    assert [in_place(shell, path, sha256, "") for sha256 in (other, SHA256)] == [f"no {path}"] * 2
    assert in_place(shell, path, "", "e") == "no", "nothing is told to prove"
    prove(shell, path)
    assert [in_place(shell, path, sha256, "") for sha256 in (other, SHA256)] == ["no", "yes"]
    assert [in_place(shell, path, "", etag) for etag in ("e", "f")] == ["yes", "no"]
    note.write_text('{"verified":0}\n')
    assert in_place(shell, path, SHA256, "") == "yes", "what was proven counts, not who wrote that"


def test_verify_compares_with_what_is_known_then_proven_then_noted(shell: Shell) -> None:
    path, other = a_file(shell), "0" * 64

    def verify(sha256: str, known: str = "") -> list[str]:
        script = compose(LIB, OWNERS, STORE, STORE.with_name("verify.sh"))
        said = shell.run(script, str(store(shell)), "7", "local/x y/m.gguf", sha256, known)
        return [line.split("\t")[0] for line in said.splitlines()][1:]

    assert [verify(SHA256), verify(SHA256[:12]), verify(other)] == [["same"], ["same"], ["differs"]]
    path.parent.chmod(0o777)
    assert [verify(SHA256), verify(other)] == [["open", "same"], ["open", "differs"]]
    assert [verify(SHA256, "1"), verify(other, "1")] == [["same"], ["differs"]]
    prove(shell, path)
    assert [verify(SHA256), verify(other), verify(other, "1")] == [["same"], ["same"], ["differs"]]


def test_what_differs_is_remembered_and_nothing_is_proven_by_it(shell: Shell) -> None:
    path = a_file(shell)
    assert prove(shell, path, "0" * 64) == ["reading", "differs"]
    assert proven(shell, path, "0" * 64) == "no"
    assert proven(shell, path, "") == "no"
    assert proven(shell, path) == f"no {path}", "it may be another one that is wanted"
    assert prove(shell, path.with_name("none")) == ["reading", "gone"]
    assert len(list((shell.root / "proofs").iterdir())) == 1


def test_a_file_that_was_just_changed_is_looked_at_when_its_time_tells(shell: Shell) -> None:
    path = a_file(shell)
    began = time.time()
    prove(shell, path)
    assert time.time() - began > 1.5


def test_a_note_is_written_through_no_link(shell: Shell) -> None:
    shell.lib(":")
    note, kept = shell.home / "m.gguf.json", shell.home / "kept"
    note.write_text('{"last_used":1}\n')
    note.chmod(0o600)
    kept.write_text("mine")
    Path(f"{note}.tmp").symlink_to(kept)
    shell.lib('rbee_note "$1" last_used 7', str(note))
    assert (note.read_text(), kept.read_text()) == ('{"last_used":7}\n', "mine")
    assert note.stat().st_mode & 0o777 == 0o600, "who may read it stays the same"
    note.rename(shell.home / "real")
    note.symlink_to("real")
    shell.lib('rbee_note "$1" last_used 9', str(note))
    assert note.read_text() == '{"last_used":7}\n'


@ROOT_NEEDED
@pytest.mark.parametrize("whose", ["note", "directory"])
def test_a_note_of_others_is_left_alone(shell: Shell, whose: str) -> None:
    shell.lib(":")
    note = shell.home / "there/m.gguf.json"
    note.parent.mkdir()
    note.write_text('{"last_used":1}\n')
    os.chown(note if whose == "note" else note.parent, OTHER, OTHER)
    shell.lib('rbee_note "$1" last_used 7', str(note))
    assert note.read_text() == '{"last_used":1}\n'


def test_what_is_copied_from_another_disk_is_summed_again(shell: Shell) -> None:
    """As `mv` does where hf/ is a disk of its own."""
    incoming = store(shell) / f".incoming-{os.getuid()}"
    incoming.mkdir(mode=0o700, parents=True)
    for text, sha256, said in ((b"GGUF", SHA256, ""), (b"evil", SHA256, "problem")):
        (incoming / "k.part").write_bytes(text)
        body = (
            'mv() { case $2 in */k.part) cp "$2" "$3" && rm "$2" ;; *) command mv "$@" ;; esac; }\n'
            "rbee_modes() { WHO=$(stat -c '%u %A %d:%i' \"$@\" 2>/dev/null)\n"
            'case $1 in */m.gguf) WHO="${WHO% *} 7:9" ;; esac; }\n'
            'rbee_incoming && rbee_settle ./k.part local/x/m.gguf "{}" "$2"'
        )
        assert asked(shell, body, sha256).partition("\t")[0] == said
    assert list(store(shell).rglob("*.gguf*")) == []


@pytest.mark.parametrize("made", ["1024 -rw-------", "1024 -rwxrwxrwx", "{me} -rwxrwxrwx"])
def test_a_disk_that_gives_all_files_one_owner_or_mode_is_used(shell: Shell, made: str) -> None:
    """As a NAS does (all_squash), or a FAT: what is made there is nobody else's as far as can be told."""
    made = made.format(me=os.getuid())
    directories = f"sed 's/^[^ ]* d[^ ]*/{made}/; s/ -/ d/'"
    stub = (
        f'stat() {{ case $* in *%d*) command stat "$@" 2>/dev/null | {directories} ;;\n'
        f"*/dev/fd/*) echo '{made}' ;; *) command stat \"$@\" ;; esac; }}\n"
    )
    assert asked(shell, stub + "rbee_enter local/x 022 && pwd -P") == str(store(shell) / "local/x")
    other = f"{stub}rbee_odd_disk() {{ return 1; }}\n"
    assert asked(shell, other + "rbee_enter local/y 022 || echo $REASON") == "foreign"
    assert [path.name for path in store(shell).iterdir()] == ["local"]


@ROOT_NEEDED
@pytest.mark.parametrize("at", ["", "workers"])
def test_a_state_directory_of_another_user_is_refused(shell: Shell, at: str) -> None:
    """Where others may write in ~/.local/state, or XDG_STATE_HOME, they can be first."""
    shell.lib(":")
    os.chown(shell.root / at, OTHER, OTHER)
    body = compose(LIB, then="rbee_init && echo begun")
    assert shell.run(body) == f"problem\t{shell.root} is not yours\n"
    os.chown(shell.home, OTHER, OTHER)
    assert shell.run(body) == "begun\n", "nobody can be told from another there"


def test_no_function_of_the_store_is_one_of_the_scripts_before_it() -> None:
    """Of two with one name the last one counts, for those who mean the first as well."""
    names = re.findall(r"^(\w+)\(\)", compose(LIB, OWNERS, STORE), re.MULTILINE)
    assert sorted(names) == sorted(set(names))


def test_the_state_directory_in_a_home_is_ours_for_the_store_as_well(shell: Shell) -> None:
    """Nobody looks at what lies above a home: others may even write there."""
    assert asked(shell, "echo first") == "first"
    shell.home.parent.chmod(0o777)
    assert asked(shell, 'echo "$PWD"') == str(shell.home), "and nothing has gone elsewhere"
