"""Scripts on servers that misbehave: each odd answer is an error of ours, never an exception of theirs."""

from __future__ import annotations

import asyncio

import pytest
from unit.ssh.servers import NoLogin, Process, Session, Shell, more, session, talk

from rbee_ssh.errors import ConnectionLost, ResponseInvalid, SessionLimit, ShellUnusable
from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.script import ScriptResult


async def marker(process: Process) -> bytes:
    """The line that a shell which runs the script prints first."""
    text = b""
    while b"rbee_main </dev/null" not in text:
        text += await more(process)
    return b"\nrbee-" + text.partition(b"rbee-")[2].partition(b"\n")[0] + b"\n"


async def ask(connection: Connection) -> ScriptResult:
    return await script.run(connection, "true")


def saying(output: bytes, status: int = 0) -> Shell:
    """A shell that runs the script, says this and ends."""

    async def shell(process: Process) -> None:
        process.stdout.write(await marker(process) + output)
        process.exit(status)

    return shell


def test_noise_before_the_marker_is_left_out() -> None:
    async def shell(process: Process) -> None:
        process.stdout.write(b"Welcome!\x1b[0m no end of line")
        mark = await marker(process)
        process.stdout.write(mark[:9])
        await asyncio.sleep(0.02)
        process.stdout.write(mark[9:] + b"answer\n")
        process.exit(7)

    assert talk(shell, ask) == ScriptResult(7, "answer", "")


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert talk(saying(b"\xff\xc3\n\0a\r\n"), ask) == ScriptResult(0, "\ufffd\ufffd\n\0a\r", "")


def test_a_shell_that_ends_at_once_is_unusable() -> None:
    async def shell(process: Process) -> None:
        process.stdout.write(b"This account is not available.\n")
        process.exit(1)

    with pytest.raises(ShellUnusable) as refusal:
        talk(shell, ask)
    assert refusal.value.details == {
        "node": "far",
        "output": "This account is not available.",
        "status": 1,
    }


def test_a_shell_that_hangs_up_before_it_is_spoken_to() -> None:
    async def shell(process: Process) -> None:
        process.channel.abort()

    for _ in range(5):
        with pytest.raises(ShellUnusable):
            talk(shell, ask)


def test_a_shell_that_says_nothing() -> None:
    async def shell(process: Process) -> None:
        await process.stdin.read()
        await asyncio.sleep(10)

    with pytest.raises(ShellUnusable, match="no answer"):
        talk(shell, ask, timeouts=Timeouts(start=0.2))


@pytest.mark.parametrize("marked", [False, True])
def test_endless_output_ends(marked: bool) -> None:
    async def shell(process: Process) -> None:
        if marked:
            process.stdout.write(await marker(process))
        while True:
            process.stdout.write(b"blah " * 4000)
            await process.stdout.drain()

    async def patiently(connection: Connection) -> ScriptResult:
        return await script.run(connection, "true", timeout=20)

    with pytest.raises(ResponseInvalid if marked else ShellUnusable):
        talk(shell, patiently, timeouts=Timeouts(start=20))


def test_a_script_that_does_not_end() -> None:
    async def shell(process: Process) -> None:
        process.stdout.write(await marker(process))
        await asyncio.sleep(10)

    async def impatiently(connection: Connection) -> ScriptResult:
        return await script.run(connection, "true", timeout=0.3)

    with pytest.raises(ResponseInvalid, match="did not end"):
        talk(shell, impatiently)


def test_a_connection_that_is_cut_under_a_script() -> None:
    async def shell(process: Process) -> None:
        process.stdout.write(await marker(process) + b"half an")
        await process.stdout.drain()
        process.channel.get_connection().abort()

    with pytest.raises(ConnectionLost):
        talk(shell, ask)


def test_a_session_that_is_refused_is_waited_for() -> None:
    asked = 0

    class TwiceTooMany(NoLogin):
        def session_requested(self) -> bool | Session:
            nonlocal asked
            asked += 1
            return asked > 2 and session(saying(b"at last\n"))

    assert talk(None, ask, server_factory=TwiceTooMany).stdout == "at last"
    assert asked == 3


def test_a_server_without_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SESSION_WAITS", (0.01, 0.01))
    with pytest.raises(SessionLimit):
        talk(None, ask)


def test_a_script_that_is_cancelled_leaves_the_connection_usable() -> None:
    sessions = 0

    async def shell(process: Process) -> None:
        nonlocal sessions
        sessions += 1
        mark = await marker(process)
        process.stdout.write(mark)
        if sessions == 1:
            await asyncio.sleep(10)
        process.stdout.write(b"second\n")
        process.exit(0)

    async def work(connection: Connection) -> str:
        first = asyncio.ensure_future(script.run(connection, "true"))
        await asyncio.sleep(0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await ask(connection)).stdout

    assert talk(shell, work) == "second"


def test_a_session_that_opens_too_late_is_not_left_open() -> None:
    """With MaxSessions 1 it would be in the way of every script that follows."""
    opened = asyncio.Event()
    ended = asyncio.Event()

    async def shell(process: Process) -> None:
        opened.set()
        await process.wait_closed()
        ended.set()

    refused = asyncio.Event()

    class Slow(NoLogin):
        async def session_requested(self) -> Session:
            await refused.wait()
            return session(shell)

    async def work(connection: Connection) -> None:
        with pytest.raises(ResponseInvalid, match="did not end"):
            await script.run(connection, "true", timeout=0.1)
        assert not opened.is_set()
        refused.set()
        async with asyncio.timeout(20):
            await ended.wait()
        assert not connection.closed

    talk(None, work, server_factory=Slow)


def test_what_a_node_does_not_take_is_told() -> None:
    """A disk that is full: the script says so and ends, while we still send."""

    async def shell(process: Process) -> None:
        text = b""
        while b"\nrbee_main;" not in text:
            text += await more(process)
        process.stdout.write(b"\nrbee-" + text.partition(b"rbee-")[2].partition(b"\n")[0] + b"\nfull\n")
        process.exit(74)

    async def send(connection: Connection) -> tuple[list[str], tuple[int, str]]:
        async with script.running(connection, "cat", payload=True) as running:
            await asyncio.sleep(0.1)
            for _ in range(100):
                await running.send(b"x" * 65536)
            running.end_payload()
            return [line async for line in running.lines()], await running.finish()

    assert talk(shell, send) == (["full"], (74, ""))
