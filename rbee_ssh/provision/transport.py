"""What Fabric is handed: a connection to one node, found and verified by asyncssh.

Fabric and paramiko would read ssh_config, known_hosts and key files in their own fashion: paramiko knows
neither `Include` nor `@cert-authority`, and Fabric accepts unknown host keys. So they decide nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass

from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import destination, identities, known_hosts
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.connector import Connector, reason
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.lean import asyncssh

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class SshTransport:
    """A connection to a node, not logged in yet. Good as long as the context of `to_node` is open."""

    node: str
    host: str
    port: int
    user: str
    host_key: str  # type and base64: the only key that is accepted
    keys: tuple[asyncssh.SSHKeyPair, ...]  # offered in this order
    socket: socket.socket  # connected to the node's sshd
    loop: asyncio.AbstractEventLoop  # on which an agent's keys sign
    timeouts: Timeouts


@contextlib.asynccontextmanager
async def to_node(node: Node, connection: Connection, wire: Connector) -> AsyncIterator[SshTransport]:
    """To where `connection` leads, once more by the same hops.

    Args:
        connection: a live one of `wire` to this node, which is not this process itself.

    Raises:
        NodeUnreachable, JumpFailed: it cannot be gone a second time.
    """
    target = destination.of_node(node)
    key = connection.ssh.get_server_host_key()
    if key is None:
        raise NodeUnreachable(f"node {node.name!r} has shown no host key")
    async with identities.offer(target) as offered, _socket(target, connection, wire) as end:
        certificates = identities.certificates(target.certificate_files)
        yield SshTransport(
            node=node.name,
            host=target.host,
            port=target.port,
            user=target.user,
            host_key=known_hosts.text_of(key),
            keys=tuple(asyncssh.load_keypairs(list(offered.keys), certlist=certificates)),
            socket=end,
            loop=asyncio.get_running_loop(),
            timeouts=connection.timeouts,
        )


@contextlib.asynccontextmanager
async def _socket(
    target: Destination, connection: Connection, wire: Connector
) -> AsyncIterator[socket.socket]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            tunnel = await wire.tunnel_to(target)
            if tunnel is not None:
                end = await stack.enter_async_context(_through(tunnel, target))
            elif target.proxy_command:
                end = await stack.enter_async_context(_of_program(target))
            else:
                end = stack.enter_context(await in_daemon_thread(lambda: _again(connection)))
        except (OSError, asyncssh.Error) as error:
            raise NodeUnreachable(
                f"node {target.label!r} cannot be reached a second time at {target.host} port {target.port}: "
                f"{reason(error)}",
                hint=f"rbee nodes status {target.label}",
                details=target.details,
            ) from error
        yield end


def _again(connection: Connection) -> socket.socket:
    """To the very address, and from the one, that the verified connection has."""
    there, here = (connection.ssh.get_extra_info(name) for name in ("peername", "sockname"))
    return socket.create_connection(there[:2], connection.timeouts.connect, source_address=(here[0], 0))


@contextlib.asynccontextmanager
async def _through(tunnel: asyncssh.SSHClientConnection, target: Destination) -> AsyncIterator[socket.socket]:
    """One end of a socket pair; the other is fed by a channel of the last hop."""
    reader, writer = await tunnel.open_connection(target.host, target.port, encoding=None)
    ours, theirs = socket.socketpair()
    try:
        near_reader, near_writer = await asyncio.open_connection(sock=ours)
        pumps = [
            asyncio.create_task(_pump(near_reader, writer)),
            asyncio.create_task(_pump(reader, near_writer)),
        ]
        try:
            yield theirs
        finally:
            near_writer.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
    finally:
        writer.channel.abort()
        theirs.close()


async def _pump(
    source: asyncio.StreamReader | asyncssh.SSHReader[bytes],
    sink: asyncio.StreamWriter | asyncssh.SSHWriter[bytes],
) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()


@contextlib.asynccontextmanager
async def _of_program(target: Destination) -> AsyncIterator[socket.socket]:
    """One end of a socket pair; the other is stdin and stdout of ssh_config's ProxyCommand."""
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            program = await asyncio.create_subprocess_exec(
                *target.proxy_command, stdin=ours.fileno(), stdout=ours.fileno(), stderr=subprocess.DEVNULL
            )
        try:
            yield theirs
        finally:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            await program.wait()
