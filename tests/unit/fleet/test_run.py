"""Output by lines, behind a login shell's noise; the status of many; the script in every shell."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.console import OutputClosed
from rbee_ssh.errors import DiskFull, NodeUnreachable
from rbee_ssh.fleet.run import BODY, LONGEST, Ended, Lines, _behind, run_on, worst
from rbee_ssh.inventory import Inventory, Node
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import wrap

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["zsh", "--emulate", "sh"]]
MARK = b"0123456789abcdef"


@given(st.lists(st.binary(max_size=12)))
def test_lines_whatever_the_pieces(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.close()
    whole = b"".join(pieces)
    assert found == whole.removesuffix(b"\n").split(b"\n") if whole else not found


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    lines = Lines()
    found = [line for _ in range(10) for line in lines.feed(b"x" * LONGEST)] + lines.close()
    assert max(map(len, found)) <= LONGEST
    assert b"".join(found) == b"x" * LONGEST * 10


@given(st.binary(max_size=30), st.binary(max_size=30), st.integers(1, 20))
def test_noise_before_the_mark_is_left_out(noise: bytes, said: bytes, size: int) -> None:
    sent = noise + b"\n" + MARK + b"\n" + said
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]

    async def read() -> bytes:
        return pieces.pop(0) if pieces else b""

    async def everything() -> bytes:
        whole = data = await _behind(read, MARK)
        while data:
            data = await read()
            whole += data
        return whole

    assert asyncio.run(everything()) == said


def test_the_status_of_all() -> None:
    down = Ended("b", 1.0, error=NodeUnreachable("no"))
    assert worst([]) == 0
    assert worst([Ended("a", 1.0, 0), Ended("c", 1.0, 0)]) == 0
    assert worst([Ended("a", 1.0, 0), down]) == 1
    assert worst([Ended("a", 1.0, 7), down, Ended("c", 1.0, 143)]) == 143


@pytest.mark.parametrize("error", [DiskFull("no space"), OutputClosed()], ids=["full", "closed"])
def test_stdout_that_takes_nothing_ends_the_commands(tmp_path: Path, error: Exception) -> None:
    """The reader of stderr, which waits for a line that never comes, does not hold up the end."""
    ends: list[Ended] = []
    names = ["localhost", "other"]

    def on_line(name: str, stream: str, line: bytes) -> None:
        if stream == "stdout" and name == "localhost":
            raise error

    async def work() -> None:
        inventory = Inventory({name: Node(name, "localhost") for name in names})
        async with ConnectionPool(
            inventory, Registry(tmp_path / "r.json", reporter=SilentReporter()), SilentReporter()
        ) as pool:
            async with asyncio.timeout(60):
                await run_on(pool, names, ["yes"], on_line, ends.append)

    with pytest.raises(type(error)):
        asyncio.run(work())
    assert ends == [], "no node is at fault"


def started(shell: list[str], *words: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed: scripts/test installs it")
    pipe = subprocess.PIPE
    process = subprocess.Popen(shell, stdin=pipe, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(wrap(BODY, ["mark", *words], "begin", payload=True).encode())
    process.stdin.flush()
    return process


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_a_command_in_every_shell(shell: list[str]) -> None:
    with started(shell, "printf", "%s|", "a  b", "$HOME", "'\"\n*") as process:
        assert process.stdout is not None and process.stderr is not None and process.stdin is not None
        assert process.stdout.read() == b"\nbegin\na  b|$HOME|'\"\n*|"
        assert process.stderr.read() == b"\nmark\n"
    line = "cat; echo x | tr x $((2 + 1)); echo no >&2; exit 3"
    with started(shell, line, env={"PATH": "/usr/bin:/bin"}) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read() == b"\nbegin\n3\n"
        assert process.stderr.read() == b"\nmark\nno\n"
        assert process.wait() == 3


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_it_ends_with_all_it_started_when_nobody_waits(shell: list[str]) -> None:
    line = "sleep 60 & trap 'echo term; exit' TERM; echo up; while :; do sleep 0.1; done"
    with started(shell, "sh", "-c", line) as process:
        assert process.stdout is not None and process.stdin is not None
        assert [process.stdout.readline() for _ in range(3)] == [b"\n", b"begin\n", b"up\n"]
        process.stdin.close()
        assert process.stdout.read() == b"term\n", "the pipe closes when the last of them has gone"
