"""receive.sh under every shell that may be a node's `sh`, and what transfers leave that were cut short."""

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

from rbee_ssh.models.deliver import script_text

CONTENT = b"GGUF" + bytes(range(256)) * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with ending_processes(make(request.param, tmp_path)) as shell:
        yield shell


def sender(shell: Shell, target: Path) -> subprocess.Popen[bytes]:
    """What takes the file on the node; its stdin is the payload's."""
    text = f'rbee_main() {{\n{script_text()}\n}}\nrbee_main "$@"\n'
    return subprocess.Popen(
        ["sh", "-c", text, "sh", str(target), str(len(CONTENT)), "{}", SHA256],
        executable=shutil.which("sh", path=shell.path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": str(shell.home), "PATH": shell.path},
        start_new_session=True,
    )


def receive(shell: Shell, target: Path, content: bytes = CONTENT) -> dict[str, str]:
    out, err = sender(shell, target).communicate(content, timeout=30)
    assert not err
    return dict(line.partition("\t")[::2] for line in out.decode().splitlines())


def test_a_file_comes_with_its_note_and_nothing_else(shell: Shell) -> None:
    target = shell.home / "models" / "a [b]*; $(touch pwned)\n'é\\.gguf"
    answer = receive(shell, target)
    assert (answer["size"], answer["sha256"]) == (str(len(CONTENT)), SHA256)
    assert target.read_bytes() == CONTENT
    assert {path.name for path in target.parent.iterdir()} == {target.name, target.name + ".json"}


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?", b""])
def test_what_is_not_the_file_leaves_nothing(shell: Shell, content: bytes) -> None:
    assert "path" not in receive(shell, shell.home / "models" / "m", content)
    assert list((shell.home / "models").iterdir()) == []


def test_the_part_of_a_transfer_that_was_killed_is_removed_by_a_later_one(shell: Shell) -> None:
    """By a reboot, say: gigabytes, under a name that nobody asks for again. One that still comes in stays."""
    target = shell.home / "models" / "a [b].gguf"
    living, killed = sender(shell, target), sender(shell, target)
    for process in (living, killed):
        assert process.stdin is not None
        process.stdin.write(CONTENT[:1000])
        process.stdin.flush()
    while len(parts(target)) < 2 or not all(part.stat().st_size for part in parts(target)):
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    (old,) = (part for part in parts(target) if part.name.endswith(f".{killed.pid}"))
    os.utime(old, (time.time() - 4000,) * 2)
    assert receive(shell, target)["sha256"] == SHA256
    assert not old.exists()
    assert len(parts(target)) == 1
    out, _ = living.communicate(CONTENT[1000:], timeout=30)
    assert b"path\t" in out
    assert parts(target) == []
    assert processes_of(shell.home) == {}


def parts(target: Path) -> list[Path]:
    return [path for path in target.parent.glob("*") if ".part." in path.name]
