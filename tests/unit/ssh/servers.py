"""A real SSH server whose shell is a Python function: for what no well-behaved sshd would say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.lean import asyncssh

T = TypeVar("T")
Process = asyncssh.SSHServerProcess[bytes]
Session = asyncssh.SSHServerSession[bytes]
Shell = Callable[[Process], Awaitable[None]]


def talk(
    shell: Shell | None,
    work: Callable[[Connection], Awaitable[T]],
    *,
    timeouts: Timeouts | None = None,
    **options: Any,
) -> T:
    """What `work` makes of a connection to a server with this shell; no task of either may be left over.

    Args:
        shell: answers each session; None refuses them all.
        options: of asyncssh.listen.
    """

    async def body() -> T:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            process_factory=shell,
            encoding=None,
            **{"server_factory": NoLogin} | options,
        )
        try:
            ssh = await asyncssh.connect(
                "127.0.0.1", server.get_port(), config=None, known_hosts=None, client_keys=None, username="me"
            )
            connection = Connection("far", ssh, timeouts or Timeouts(), connect_seconds=0)
            try:
                return await work(connection)
            finally:
                await connection.close()
        finally:
            server.close()
            await server.wait_closed()

    return asyncio.run(body())


class NoLogin(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


async def more(process: Process) -> bytes:
    """The next bytes that a shell is sent.

    Raises:
        EOFError: there are no more; to ask again and again would keep the loop from turning.
    """
    data: bytes = await process.stdin.read(65536)
    if not data:
        raise EOFError
    return data


def session(shell: Shell) -> Session:
    """One session with this shell, for a server that decides about each."""
    return asyncssh.SSHServerProcess(shell, None, 3, False)
