"""The way through a jump host, at its end."""

from __future__ import annotations

import pytest
from unit.ssh.servers import NoLogin, talk
from unit.ssh.stubborn import Stubborn, goes_on

from rbee_ssh.inventory import Node
from rbee_ssh.provision import transport
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.destination import of_node
from rbee_ssh.ssh.lean import asyncssh


def test_who_is_cancelled_while_the_way_ends_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server(NoLogin):
        def connection_requested(
            self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
        ) -> asyncssh.SSHTCPSession[bytes]:
            return asyncssh.SSHTCPSession()

    async def work(connection: Connection) -> bool:
        stubborn = Stubborn()
        monkeypatch.setattr(transport, "_pump", stubborn)

        async def go() -> None:
            async with transport._through(connection.ssh, of_node(Node("n", "127.0.0.1"))):
                await stubborn.begun.wait()

        return await goes_on(stubborn, go())

    assert not talk(None, work, server_factory=Server)
