"""receive.sh and place.sh under every shell that may be a node's `sh`, and what cut transfers leave."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.node.shells import SHELLS, Shell, ending_processes, make, processes_of

from rbee_ssh.models.receiver import PLACE, RECEIVE, STORE
from rbee_ssh.node.scripts import LIB, compose

CONTENT = b"GGUF" + bytes(range(256)) * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "a [b]*; $(touch pwned)'é\\.gguf"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with ending_processes(make(request.param, tmp_path)) as shell:
        yield shell


def script(shell: Shell, path: Path, *args: str) -> subprocess.Popen[bytes]:
    """One of the store's scripts on the node; its stdin is the payload's."""
    text = f'rbee_main() {{\n{compose(LIB, STORE, path)}\n}}\nrbee_main "$@"\n'
    return subprocess.Popen(
        ["sh", "-c", text, "sh", *args],
        executable=shutil.which("sh", path=shell.path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": str(shell.home), "PATH": shell.path},
        start_new_session=True,
    )


def sender(shell: Shell, sha256: str = "", how: str = "") -> subprocess.Popen[bytes]:
    return script(shell, RECEIVE, str(shell.home / "models"), "0abc", str(len(CONTENT)), sha256, how)


def ended(process: subprocess.Popen[bytes], content: bytes = b"") -> dict[str, str]:
    """What it answers to these bytes, until there are no more."""
    out, err = process.communicate(content, timeout=30)
    assert not err
    return dict(line.partition("\t")[::2] for line in out.decode().splitlines())


def placed(shell: Shell, sha256: str = SHA256) -> dict[str, str]:
    words = (str(shell.home / "models"), "0abc", str(len(CONTENT)), f"local/x/{NAME}", "{}", sha256)
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
    first = sender(shell)
    assert first.stdin is not None
    first.stdin.write(CONTENT[:1000])
    first.stdin.flush()
    part = shell.home / "models/.incoming/0abc.part"
    while not part.exists() or part.stat().st_size < 1000:
        time.sleep(0.02)
    assert ended(sender(shell)) == {"busy": "1000"}
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
    first = sender(shell)
    assert first.stdin is not None
    first.stdin.write(CONTENT[:1000])
    first.stdin.flush()
    part = shell.home / "models/.incoming/0abc.part"
    while not part.exists() or part.stat().st_size < 1000:
        time.sleep(0.02)
    os.killpg(first.pid, 9)
    first.communicate()
    assert ended(sender(shell), CONTENT[1000:])["sha256"] == SHA256


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
