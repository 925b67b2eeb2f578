"""One live SSH connection to a node: scripts, byte streams to its sockets, files."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from rbee_ssh.errors import ConnectionLost
from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh.lean import asyncssh

if TYPE_CHECKING:
    from rbee_ssh.ssh.embedded import EmbeddedServer


T = TypeVar("T")
Proof: TypeAlias = Callable[[], Awaitable[bool]]

# Linux only. Elsewhere what is said below is not so, or there is no remedy.
_QUICKACK: int | None = getattr(sockets, "TCP_QUICKACK", None)


class ChannelRefused(Exception):
    """A forwarded channel did not open. SSH does not say why: dead socket, forbidden, path too long.

    Not an error for the user: whoever opened the channel takes a second look by script.
    """


class Connection:
    """A node, connected. Close it when the command ends; nothing on the node depends on it.

    `sessions` is held while a script runs: one session at a time is enough for everything rbee does, so a
    server with MaxSessions 1 works (forwarded channels do not count against it).
    """

    def __init__(
        self,
        name: str,
        ssh: asyncssh.SSHClientConnection,
        timeouts: Timeouts,
        *,
        connect_seconds: float,
        server: EmbeddedServer | None = None,
    ) -> None:
        self.name = name
        self.ssh = ssh
        self.timeouts = timeouts
        self.connect_seconds = connect_seconds
        self.sessions = asyncio.Lock()
        self._server = server
        # Of a connection through a jump host: the socket to the first hop. None behind a ProxyCommand.
        self._socket = ssh.get_extra_info("socket")

    @property
    def embedded(self) -> bool:
        """Whether the node is this machine, served in this process: its files are our files."""
        return self._server is not None

    @property
    def closed(self) -> bool:
        return self.ssh.is_closed()

    def acknowledge(self) -> None:
        """Have what came acknowledged at once. To be said again after each packet of ours: Linux forgets.

        sshd leaves Nagle's algorithm on until a session runs: a small packet waits there until the one before
        it is acknowledged, and an acknowledgement with nothing to carry is held back here for 40 ms.
        """
        if _QUICKACK is not None and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(sockets.IPPROTO_TCP, _QUICKACK, 1)

    def acknowledge_soon(self) -> None:
        """As `acknowledge`, once the question is sent that the caller is about to wait for."""
        asyncio.get_running_loop().call_soon(self.acknowledge)

    @contextlib.asynccontextmanager
    async def stream(
        self, socket: str | None, port: int | None, proof: Proof | None = None
    ) -> AsyncIterator[tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]]:
        """A byte stream to a UNIX socket of the node, or to a port of its 127.0.0.1.

        Args:
            proof: asked once the channel is open, whether it leads to whom it is meant for.

        Raises:
            ChannelRefused: the channel did not open within `timeouts.http_connect` s, or leads elsewhere.
            ConnectionLost: there is no connection any more.
        """
        self.acknowledge_soon()
        try:
            async with asyncio.timeout(self.timeouts.http_connect):
                opening = (
                    self.ssh.open_unix_connection(socket, encoding=None)
                    if socket is not None
                    else self.ssh.open_connection("127.0.0.1", port or 0, encoding=None)
                )
                reader, writer = await kept(opening, lambda late: late[1].channel.abort())
        except asyncssh.ChannelOpenError as error:
            if self.closed:
                raise self.lost(error) from error
            raise ChannelRefused(error.reason) from error
        except TimeoutError as error:
            raise ChannelRefused("no answer") from error
        except (asyncssh.Error, OSError) as error:
            raise self.lost(error) from error
        try:
            if proof is not None and not await proof():
                raise ChannelRefused("what listens there is not the worker")
            yield reader, writer
        finally:
            # abort, not close: the engine is to see the end at once, also in the middle of an answer.
            writer.channel.abort()

    def lost(self, error: BaseException | None = None) -> ConnectionLost:
        """The error for a connection that broke under a command."""
        cause = str(error) or type(error).__name__ if error is not None else "closed by the other side"
        return ConnectionLost(
            f"the SSH connection to node {self.name!r} was lost: {cause}",
            hint="run the command again: workers live on, and files go on where they stopped",
            details={"node": self.name},
        )

    async def close(self) -> None:
        """Close the connection and, on the embedded node, its server."""
        self.ssh.close()
        with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(2):
                await self.ssh.wait_closed()
        if self._server is not None:
            await self._server.close()


async def kept(opening: Awaitable[T], drop: Callable[[T], object]) -> T:
    """What `opening` gives. When nobody waits for it any more, it is dropped as soon as it is there.

    asyncssh does not take back a channel whose opener was cancelled: it opens, and stays open on the node.
    """
    task = asyncio.ensure_future(opening)

    def late(ended: asyncio.Future[T]) -> None:
        if not ended.cancelled() and ended.exception() is None:
            drop(ended.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(late)
        raise
