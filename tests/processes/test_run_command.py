"""A command on a node, in every shell, and its end when nobody reads it any more."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from rbee_ssh.cli.console import OutputClosed
from rbee_ssh.errors import DiskFull
from rbee_ssh.fleet.run import BODY, Ended, run_on
from rbee_ssh.inventory import Inventory, Node
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import wrap

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["zsh", "--emulate", "sh"]]


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
