"""A local port whose requests go to a worker, each with the worker's own key in the place of ours.

It speaks just enough HTTP for that: one request a connection, and the answer's bytes pass as they are.

Every user of this machine can connect to the port. Who has not shown the key takes little: so many
connections with so long a head for so long; where there are more, the oldest of them makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from rbee_ssh.errors import RbeeError, UsageInvalid
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.ssh.lean import asyncssh

MAX_HEAD = 64 * 1024
HEAD_SECONDS = 30.0
# Connections that have not shown the key; a quarter of the files that may be open, if that is less.
MAX_STRANGERS = 64
ACCEPT_SECONDS = 0.1  # before the next try, where there is no file for another connection
LINGER_SECONDS = 1.0
_REASONS = {401: "Unauthorized", 431: "Request Header Fields Too Large", 502: "Bad Gateway"}


@dataclass(frozen=True, slots=True)
class UpstreamChannel:
    """An open channel to a worker, and the key that it wants."""

    connection: Connection
    api_key: str
    reader: asyncssh.SSHReader[bytes]
    writer: asyncssh.SSHWriter[bytes]


Open = Callable[[], AbstractAsyncContextManager[UpstreamChannel]]


@contextlib.asynccontextmanager
async def served(open_way: Open, key: str, port: int) -> AsyncIterator[int]:
    """Serve on 127.0.0.1 as long as the context is open; gives the port.

    Args:
        open_way: makes the way to the worker, for one request.
        key: what a local program has to show.
        port: 0 for any free one.

    Raises:
        UsageInvalid: the port is taken.
    """
    requests: set[asyncio.Task[None]] = set()
    strangers = _Strangers()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _pass_on(open_way, key, reader, writer, lambda: strangers.leave(writer))
        finally:
            strangers.leave(writer)
            writer.close()

    async def accept() -> None:
        while True:
            # Not asyncio.start_server: without a file for one more connection it writes a traceback for each
            # that waits.
            connected = await _accepted(listener)
            if connected is None:
                if not strangers.drop_oldest():
                    await asyncio.sleep(ACCEPT_SECONDS)
                await asyncio.sleep(0)  # in which its file is closed
                continue
            strangers.enter(connected[1])
            task = asyncio.create_task(one(*connected))
            requests.add(task)
            task.add_done_callback(requests.discard)

    try:
        # Who comes when the queue is full is heard a second later.
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError as error:
        raise UsageInvalid(
            f"port {port} on 127.0.0.1: {error.strerror}", hint="--port 0 takes any free one"
        ) from error
    with listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(accept())
        try:
            yield listener.getsockname()[1]
        finally:
            for task in (accepting, *requests):
                task.cancel()
            await asyncio.gather(accepting, *requests, return_exceptions=True)
            while strangers.drop_oldest():
                pass  # whose task had not begun


class _Strangers:
    """The connections that have not shown the key, oldest first."""

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = MAX_STRANGERS if soft == resource.RLIM_INFINITY else min(MAX_STRANGERS, soft // 4)
        self._waiting: dict[asyncio.StreamWriter, None] = {}

    def enter(self, writer: asyncio.StreamWriter) -> None:
        while len(self._waiting) >= self._most and self.drop_oldest():
            pass
        self._waiting[writer] = None

    def leave(self, writer: asyncio.StreamWriter) -> None:
        self._waiting.pop(writer, None)

    def drop_oldest(self) -> bool:
        """Close the one that has waited longest; False when there is none."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.transport.abort()
        return True


async def _accepted(
    listener: socket.socket,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """The next connection; None when the system has no file or memory for one, or it is gone already."""
    try:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    except OSError:
        return None
    try:
        return await asyncio.open_connection(sock=connection, limit=MAX_HEAD)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError):
            return None
        raise


async def _pass_on(
    open_way: Open,
    key: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    known: Callable[[], None],
) -> None:
    """One request of one local program; `known` is called when it has shown the key."""
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        await _answer(reader, writer, 431, f"a head of more than {MAX_HEAD} bytes")
        return
    except (asyncio.IncompleteReadError, OSError):  # TimeoutError is one
        return
    lines = head[:-4].split(b"\r\n")
    if not authorized(lines, key):
        await _answer(reader, writer, 401, "the Authorization header is not the tunnel's")
        return
    known()
    try:
        async with open_way() as way:
            way.writer.write(rewrite(lines, way.api_key))
            upward = asyncio.ensure_future(_copy_up(reader, way.writer))
            try:
                while data := await way.reader.read(65536):
                    way.connection.acknowledge()
                    writer.write(data)
                    await writer.drain()
            finally:
                upward.cancel()
                await asyncio.wait([upward])
    except RbeeError as error:
        await _answer(reader, writer, 502, error.message)
    except ChannelRefused:
        await _answer(reader, writer, 502, "the worker runs and does not answer: rbee workers list")
    except (asyncssh.Error, OSError):
        pass  # either side went away in the middle: both ends see it as a closed connection


def rewrite(lines: list[bytes], api_key: str) -> bytes:
    """The request's head with the worker's key, and one request a connection."""
    kept = [
        line
        for line in lines
        if line.split(b":", 1)[0].strip().lower() not in (b"authorization", b"connection", b"keep-alive")
    ]
    kept += [b"Authorization: Bearer " + api_key.encode(), b"Connection: close"]
    return b"\r\n".join(kept) + b"\r\n\r\n"


def authorized(lines: list[bytes], key: str) -> bool:
    """Whether a request's head shows the tunnel's key."""
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"authorization":
            return hmac.compare_digest(value.strip(), b"Bearer " + key.encode())
    return False


async def _copy_up(reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        # The local program is gone: let the engine know, so that it stops generating.
        writer.channel.abort()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, message: str
) -> None:
    body = json.dumps({"error": {"code": status, "message": message, "type": "rbee_tunnel"}}).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        writer.write(head.encode() + body)
        writer.write_eof()
        # What is unread when a socket is closed makes the kernel reset it, and the answer is lost.
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(65536):
                pass
