"""`nodes check` on a server that hangs up in the middle."""

from __future__ import annotations

import pytest
from unit.ssh.servers import NoLogin, talk

from rbee_ssh.errors import ConnectionLost
from rbee_ssh.fleet.check import _opens
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.lean import asyncssh


def test_a_connection_that_goes_while_a_channel_is_read_is_lost() -> None:
    class Server(NoLogin):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self.connection = conn

        def unix_connection_requested(self, dest_path: str) -> Session:
            return Session()

    class Session(asyncssh.SSHUNIXSession[bytes]):
        def connection_made(self, chan: asyncssh.SSHUNIXChannel[bytes]) -> None:
            self.channel = chan

        def session_started(self) -> None:
            self.channel.get_connection().abort()

    async def work(connection: Connection) -> None:
        with pytest.raises(ConnectionLost, match="far"):
            await _opens(connection, "/some.sock", None, b"word")

    talk(None, work, server_factory=Server)
