"""receive.sh and place.sh under every shell that may be a node's `sh`, and what cut transfers leave."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.shells import SHELLS, Shell, ending_processes, make, processes_of

from rbee_ssh.models.receiver import PLACE, RECEIVE, STORE, TAKE
from rbee_ssh.node.scripts import LIB, compose

CONTENT = b"GGUF" + bytes(range(256)) * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "a [b]*; $(touch pwned)'é\\.gguf"


@pytest.fixture(params=SHELLS)
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    """A node whose python3 does not start."""
    with ending_processes(make(request.param, tmp_path)) as shell:
        provide(shell, "exit 1")
        yield shell


@pytest.fixture
def taking(tools: Shell) -> Shell:
    """A node with a python3 that takes files; `touched` in its home says that it was started."""
    provide(tools, f'printf x >>"$HOME/touched"; exec {sys.executable} "$@"')
    return tools


@pytest.fixture(params=["python3", "tools"])
def shell(request: pytest.FixtureRequest, tools: Shell) -> Shell:
    if request.param == "python3":
        request.getfixturevalue("taking")
    return tools


def provide(shell: Shell, body: str) -> None:
    python3 = Path(shell.path.partition(":")[0], "python3")
    python3.write_text(f"#!/bin/sh\n{body}\n")
    python3.chmod(0o755)


TICKS = "-ge 500"  # hundredths of a second that python3 has to take the file


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one second, not five."""
    assert RECEIVE.read_text().count(TICKS) == 1
    monkeypatch.setitem(REPLACED, TICKS, "-ge 100")


REPLACED: dict[str, str] = {}


def script(shell: Shell, path: Path, *args: str, before: str = "") -> subprocess.Popen[bytes]:
    """One of the store's scripts on the node; its stdin is the payload's."""
    text = before + f'rbee_main() {{\n{compose(LIB, STORE, path)}\n}}\nrbee_main "$@"\n'
    for old, new in REPLACED.items():
        text = text.replace(old, new)
    return subprocess.Popen(
        ["sh", "-c", text, "sh", *args],
        executable=shutil.which("sh", path=shell.path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": str(shell.home), "PATH": shell.path},
        start_new_session=True,
    )


def sender(
    shell: Shell, sha256: str = "", how: str = "", place: str = "", *later: str
) -> subprocess.Popen[bytes]:
    store = str(shell.home / "models")
    return script(
        shell, RECEIVE, store, "0abc", str(len(CONTENT)), sha256, how, place, TAKE.read_text(), *later
    )


def begun(shell: Shell, sent: bytes = CONTENT[:1000], **how: str) -> subprocess.Popen[bytes]:
    """A transfer of which these bytes have arrived."""
    process = sender(shell, **how)
    assert process.stdin is not None
    process.stdin.write(sent)
    process.stdin.flush()
    part = shell.home / "models/.incoming/0abc.part"
    end = time.monotonic() + 30
    while not part.exists() or part.stat().st_size < len(sent):
        assert time.monotonic() < end, "the bytes do not arrive"
        time.sleep(0.02)
    return process


def ended(process: subprocess.Popen[bytes], content: bytes = b"") -> dict[str, str]:
    """What it answers to these bytes, until there are no more."""
    out, err = process.communicate(content, timeout=30)
    assert not err
    return dict(line.partition("\t")[::2] for line in out.decode().splitlines())


def placed(shell: Shell, sha256: str = SHA256, place: str = f"local/x/{NAME}") -> dict[str, str]:
    words = (str(shell.home / "models"), "0abc", str(len(CONTENT)), place, "{}", sha256)
    return ended(script(shell, PLACE, *words))


def files(shell: Shell) -> dict[str, bytes]:
    top = shell.home / "models"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_a_file_comes_with_its_note_and_nothing_else(shell: Shell) -> None:
    answer = ended(sender(shell), CONTENT)
    assert (answer["have"], answer["received"], answer["sha256"]) == ("0", str(len(CONTENT)), SHA256)
    assert int(answer["free"]) > 0
    answer = placed(shell)
    assert (answer["path"], answer["size"]) == (str(shell.home / "models/local/x" / NAME), str(len(CONTENT)))
    assert files(shell) == {f"local/x/{NAME}": CONTENT, f"local/x/{NAME}.json": b"{}\n"}


def test_what_is_cut_short_goes_on_where_it_stopped(shell: Shell) -> None:
    assert ended(sender(shell), CONTENT[:1000])["problem"] == "short"
    assert files(shell) == {".incoming/0abc.part": CONTENT[:1000]}
    assert placed(shell)["problem"] == "short", "part of a model is none"
    answer = ended(sender(shell), CONTENT[1000:])
    assert (answer["have"], answer["sha256"]) == ("1000", SHA256)
    anew = ended(sender(shell, how="anew"), CONTENT[::-1])
    assert (anew["have"], anew["sha256"]) == ("0", hashlib.sha256(CONTENT[::-1]).hexdigest())
    ended(script(shell, PLACE, str(shell.home / "models"), "0abc", "0", "", "", "away"))
    assert files(shell) == {}


def test_one_at_a_time_and_who_stands_still_is_replaced(shell: Shell) -> None:
    first = begun(shell)
    busy = ended(sender(shell))
    assert (busy.pop("owner").split()[0], busy) == (str(first.pid), {"busy": "1000"})
    answer = ended(sender(shell, how="take"), CONTENT[1000:])
    assert (answer["have"], answer["sha256"]) == ("1000", SHA256)
    assert first.wait(10) != 0
    first.communicate()
    assert list(files(shell)) == [".incoming/0abc.part"]
    end = time.monotonic() + 5
    while processes_of(shell.home):
        assert time.monotonic() < end, "its reader ends by itself"
        time.sleep(0.05)


def test_the_part_of_one_that_was_killed_is_free(shell: Shell) -> None:
    first = begun(shell)
    os.killpg(first.pid, 9)
    first.communicate()
    assert ended(sender(shell), CONTENT[1000:])["sha256"] == SHA256


def writers(shell: Shell) -> list[int]:
    """Who has the partial file open to write it: not the shell, which knows it by name only."""
    part = str(shell.home / "models/.incoming/0abc.part")
    return [
        pid
        for pid in processes_of(shell.home)
        for number in open_files(pid)
        if part_of(pid, number) == part and flags(pid, number) & os.O_WRONLY
    ]


def open_files(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/fd")]
    return []


def flags(pid: int, number: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
    return 0


def test_whoever_writes_it_is_killed_and_what_came_stays(shell: Shell) -> None:
    first = begun(shell)
    (writer,) = writers(shell)
    os.kill(writer, signal.SIGKILL)
    assert ended(first)["problem"] == "short"
    assert ended(sender(shell), CONTENT[1000:])["sha256"] == SHA256


def part_of(pid: int, descriptor: int) -> str:
    """Which file a process has there."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{descriptor}")
    return ""


def test_whoever_sums_it_is_killed_and_all_is_summed(tools: Shell) -> None:
    first = sender(tools)
    assert first.stdin is not None
    sums = tools.home / "models/.incoming/0abc.part.sum"

    def readers() -> list[int]:
        return [pid for pid in processes_of(tools.home) if part_of(pid, 1) == str(sums)]

    while not readers():
        time.sleep(0.02)
    for pid in readers():
        os.kill(pid, signal.SIGKILL)
    assert ended(first, CONTENT)["sha256"] == SHA256


def test_what_cannot_be_written_goes_away(shell: Shell) -> None:
    store, size = str(shell.home / "models"), str(len(CONTENT))
    words = (store, "0abc", size, "", "", "", TAKE.read_text())
    answer = ended(script(shell, RECEIVE, *words, before="ulimit -f 2\n"), CONTENT)
    assert answer["problem"] == "full"
    assert files(shell) == {}


def test_python3_sums_what_lay_there_and_what_comes(taking: Shell) -> None:
    """More than its pieces and the pipe's, with a beginning that it has to catch up with."""
    content = os.urandom(3 * 2**20 + 7)
    incoming = taking.home / "models/.incoming"
    incoming.mkdir(parents=True)
    (incoming / "0abc.part").write_bytes(content[: 2 * 2**20])
    size = str(len(content))
    words = (str(taking.home / "models"), "0abc", size, "", "", "", TAKE.read_text())
    answer = ended(script(taking, RECEIVE, *words), content[2 * 2**20 :])
    assert answer["sha256"] == hashlib.sha256(content).hexdigest()
    assert (incoming / "0abc.part").read_bytes() == content
    assert (taking.home / "touched").read_text() == "x"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "python3",
    [
        "exec sleep 60",
        "sleep 60",
        "echo noise; echo more >&2; exit 0",
        "cd / && exec {python} -c 'raise MemoryError'",
        "kill -9 $$",
    ],
)
def test_a_python3_that_does_not_take_it_costs_nothing(tools: Shell, python3: str) -> None:
    provide(tools, python3.format(python=sys.executable))
    assert ended(sender(tools), CONTENT)["sha256"] == SHA256
    assert files(tools) == {".incoming/0abc.part": CONTENT}


@pytest.mark.usefixtures("hurried")
def test_a_python3_that_is_late_takes_nothing(tools: Shell, tmp_path: Path) -> None:
    go, late = tmp_path / "go", tmp_path / "late"
    wait = f"until [ -e {go} ]; do sleep 0.1; done"
    # It is killed, and whom it waits for; not those behind them.
    provide(tools, f'(({wait}; {sys.executable} "$@"; echo $? >{late}); true) <&0 &\nwait')
    first = begun(tools, CONTENT[:1000])
    go.touch()  # what has arrived was written by another
    end = time.monotonic() + 30
    while not late.exists() or not late.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert late.read_text().strip() == "1"
    assert ended(first, CONTENT[1000:])["sha256"] == SHA256


def test_what_only_starts_python3_is_replaced_with_it(tools: Shell) -> None:
    provide(tools, f'{sys.executable} "$@"')
    first = begun(tools)
    (writer,) = writers(tools)
    answer = ended(sender(tools, how="take"), CONTENT[1000:])
    assert answer["sha256"] == SHA256
    first.communicate()
    end = time.monotonic() + 5
    while writer in processes_of(tools.home):
        assert time.monotonic() < end, "what writes ends with the one that it is replaced with"
        time.sleep(0.02)


def test_a_cut_is_told_without_summing_what_came(shell: Shell) -> None:
    """1 TiB of nothing would take half an hour."""
    incoming = shell.home / "models/.incoming"
    incoming.mkdir(parents=True)
    with (incoming / "0abc.part").open("wb") as part:
        part.truncate(2**40)
    words = (str(shell.home / "models"), "0abc", str(2**40 + 1), "", "", "", TAKE.read_text())
    assert ended(script(shell, RECEIVE, *words))["problem"] == "short"
    (incoming / "0abc.part").unlink()


def test_parts_that_nobody_continues_are_removed(shell: Shell) -> None:
    incoming = shell.home / "models/.incoming"
    incoming.mkdir(parents=True)
    for name, days in (("0123.part", 8), ("0123.part.owner", 8), ("4567.part", 6)):
        (incoming / name).write_text("x")
        os.utime(incoming / name, (time.time() - days * 86400,) * 2)
    ended(sender(shell), CONTENT)
    assert sorted(path.name for path in incoming.iterdir()) == ["0abc.part", "4567.part"]


def test_a_model_that_is_there_is_found_by_its_sum_or_size(shell: Shell) -> None:
    model = shell.home / "models/hf/org/repo/x" / NAME
    model.parent.mkdir(parents=True)
    model.write_bytes(CONTENT)
    Path(f"{model}.json").write_text(f'{{"sha256": "{SHA256}", "size": {len(CONTENT)}, "revision": "x"}}')
    assert ended(sender(shell)) == {"compare": "1"}
    answer = ended(sender(shell, SHA256))
    assert (answer["path"], answer["size"]) == (str(model), str(len(CONTENT)))
    assert "have" in ended(sender(shell, "0" * 64), b"")
    model.unlink()
    assert "have" in ended(sender(shell, SHA256), b"")


def there(shell: Shell, place: str, content: bytes = CONTENT, **said: object) -> Path:
    """A file of the store, with its note."""
    model = shell.home / "models" / place
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(content)
    note = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "last_used": 1, **said}
    Path(f"{model}.json").write_text(json.dumps(note, separators=(",", ":")))
    return model


OTHER = bytes(len(CONTENT))


def test_digits_in_another_member_of_a_note_are_no_sum(shell: Shell) -> None:
    """Neither as the whole of it, nor within a text that looks like a member."""
    lie = f'x","sha256":"{SHA256}'
    there(shell, f"local/x/{NAME}", OTHER, revision=SHA256, source=lie, quant=f'"sha256":"{SHA256}"')
    assert "have" in ended(sender(shell, SHA256), CONTENT)
    assert "path" in placed(shell, place=f"local/{SHA256[:12]}/{NAME}")


def test_a_file_makes_way_for_none_of_another_sum(shell: Shell) -> None:
    """It may be a part of a split model, whose directory is called after the first part."""
    model = there(shell, f"local/x/{NAME}", OTHER)
    note = Path(f"{model}.json")
    ended(sender(shell, SHA256), CONTENT)
    assert placed(shell) == {"problem": "other"}
    assert (model.read_bytes(), len(note.read_text()) > 80) == (OTHER, True)
    # One that is found to differ does; and so does one that lies where the new one belongs.
    note.write_text(note.read_text().replace("}", ',"verified":0}'))
    assert "path" in placed(shell)
    assert model.read_bytes() == CONTENT
    shutil.rmtree(model.parent)
    impostor = there(shell, f"local/{SHA256[:12]}/{NAME}", OTHER)
    ended(sender(shell, SHA256), CONTENT)
    assert "path" in placed(shell, place=f"local/{SHA256[:12]}/{NAME}")
    assert impostor.read_bytes() == CONTENT


def test_a_part_is_not_linked_over_another_file(shell: Shell) -> None:
    there(shell, f"local/x/{NAME}")
    other = there(shell, f"local/y/{NAME}", OTHER)
    assert "have" in ended(sender(shell, SHA256, "", f"local/y/{NAME}"), CONTENT)
    assert other.read_bytes() == OTHER


def test_a_file_never_has_the_note_of_the_next_one(tools: Shell) -> None:
    """Cut short between the two, nothing is left that would be taken for it."""
    model = there(tools, f"local/{SHA256[:12]}/{NAME}", OTHER)
    ended(sender(tools, SHA256), CONTENT)
    words = (str(tools.home / "models"), "0abc", str(len(CONTENT)), f"local/{SHA256[:12]}/{NAME}")
    stopped = script(
        tools, PLACE, *words, f'{{"sha256":"{SHA256}"}}', SHA256, before="mv() { kill -9 $$; }\n"
    )
    stopped.communicate()
    assert stopped.returncode == -signal.SIGKILL
    assert not model.exists()


def test_what_a_killed_transfer_left_goes_with_the_next_one_of_any_file(shell: Shell) -> None:
    first = sender(shell)
    assert first.stdin is not None
    first.stdin.write(CONTENT[:1000])
    first.stdin.flush()
    incoming = shell.home / "models/.incoming"
    while not (incoming / "0abc.part").exists():
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert (incoming / "0abc.part.owner").exists()
    ended(script(shell, RECEIVE, str(shell.home / "models"), "0def", "7", "", "", "", ""), b"")
    assert {path.name for path in incoming.iterdir()} == {"0abc.part"}


def test_a_model_that_was_found_to_differ_is_none(shell: Shell) -> None:
    ended(sender(shell), CONTENT)
    placed(shell)
    (note,) = (shell.home / "models").rglob("*.json")
    told = f'{{"sha256":"{SHA256}","size":{len(CONTENT)},"last_used":1,"verified":'
    note.write_text(told + "7}")
    assert "path" in ended(sender(shell, SHA256))
    note.write_text(told + "0}")
    assert "have" in ended(sender(shell, SHA256), CONTENT)
    assert "path" in placed(shell)
    assert "verified" not in note.read_text()


def test_a_part_that_lies_elsewhere_is_linked_to_the_others(shell: Shell) -> None:
    """An engine finds the parts of a split model beside each other only."""
    store = shell.home / "models"
    model, note = store / "local/x" / NAME, f'{{"sha256": "{SHA256}"}}'
    model.parent.mkdir(parents=True)
    model.write_bytes(CONTENT)
    Path(f"{model}.json").write_text(note)
    assert ended(sender(shell, SHA256, "", f"local/y/{NAME}"))["path"] == str(store / "local/y" / NAME)
    assert files(shell) == {
        f"local/{directory}/{NAME}{end}": content
        for directory in "xy"
        for end, content in (("", CONTENT), (".json", note.encode()))
    }
    # Where no link can be made, it comes once more.
    (store / "local" / "z").write_bytes(b"in the way")
    assert "have" in ended(sender(shell, SHA256, "", f"local/z/{NAME}"), CONTENT)


def test_what_comes_later_and_is_not_here_is_told(shell: Shell) -> None:
    ended(sender(shell), CONTENT)
    placed(shell)
    (shell.home / "models" / ".incoming" / "0def.part").write_bytes(b"x" * 100)
    there = (f"local/x/{NAME}", "0123", str(len(CONTENT)))
    begun, missing = ("local/x/b.gguf", "0def", "1000"), ("local/x/c.gguf", "0999", "2000")
    other = script(
        shell, RECEIVE, str(shell.home / "models"), "0aaa", "77", "", "", "", "", *there, *begun, *missing
    )
    assert ended(other)["later"] == "2900"
