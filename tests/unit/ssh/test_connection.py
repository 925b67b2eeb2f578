"""Byte streams over a connection: refused, slow in coming, cut. A real server that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from unit.ssh.servers import NoLogin, talk

from rbee_ssh.errors import ConnectionLost
from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.ssh.lean import asyncssh


class Session(asyncssh.SSHUNIXSession[bytes]):
    """The far end of a stream."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.channel: asyncssh.SSHUNIXChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHUNIXChannel[bytes]) -> None:
        self.channel = chan
        chan.write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def test_what_comes_and_what_is_left_behind() -> None:
    session = []

    class Server(NoLogin):
        def unix_connection_requested(self, dest_path: str) -> Session:
            session.append(Session())
            return session[0]

    async def work(connection: Connection) -> None:
        async with connection.stream("/some.sock", None) as (reader, _):
            assert await reader.read(100) == b"hello"
        async with asyncio.timeout(2):
            await session[0].lost.wait()

    talk(None, work, server_factory=Server)


def test_a_stream_that_opens_too_late_is_not_left_open() -> None:
    """In a tunnel, which lives on, it would count as use of the worker for half an hour."""
    session = []
    refused, opened = asyncio.Event(), asyncio.Event()

    class Server(NoLogin):
        def unix_connection_requested(self, dest_path: str) -> Awaitable[Session]:
            async def soon() -> Session:
                await refused.wait()
                session.append(Session())
                opened.set()
                return session[0]

            return soon()

    async def work(connection: Connection) -> None:
        with pytest.raises(ChannelRefused, match="no answer"):
            async with connection.stream("/some.sock", None):
                pass
        assert session == []
        refused.set()
        async with asyncio.timeout(20):
            await opened.wait()
            await session[0].lost.wait()
        assert not connection.closed

    talk(None, work, server_factory=Server, timeouts=Timeouts(http_connect=0.1))


@pytest.mark.parametrize("where", [("/no.sock", None), (None, 1)])
def test_a_stream_that_is_refused(where: tuple[str | None, int | None]) -> None:
    async def work(connection: Connection) -> None:
        with pytest.raises(ChannelRefused):
            async with connection.stream(*where):
                pass

    talk(None, work)


def test_a_connection_that_is_gone_is_lost_and_not_refused() -> None:
    async def work(connection: Connection) -> None:
        connection.ssh.abort()
        await connection.ssh.wait_closed()
        with pytest.raises(ConnectionLost, match="far"):
            async with connection.stream("/some.sock", None):
                pass

    talk(None, work)


def test_a_connection_that_goes_while_a_stream_opens_is_lost() -> None:
    class Server(NoLogin):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self.connection = conn

        def unix_connection_requested(self, dest_path: str) -> bool:
            self.connection.abort()
            return False

    async def work(connection: Connection) -> None:
        with pytest.raises(ConnectionLost):
            async with connection.stream("/some.sock", None):
                pass

    talk(None, work, server_factory=Server)
