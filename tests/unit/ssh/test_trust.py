"""When a host key is asked for."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import connector, trust
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.ssh.destination import of_node


def test_it_waits_for_its_turn_as_a_login_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(connector, "PATIENCE", 600.0)
    monkeypatch.setattr(connector, "LOGINS", 1)

    async def body() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            node = Node("n", "127.0.0.1", port=nobody.getsockname()[1])
            way = Connector({}, Timeouts())
            async with way.gate(of_node(node)).entered():
                asking = asyncio.ensure_future(trust.fetch(way, node))
                done, _ = await asyncio.wait({asking}, timeout=0.3)
                assert not done, "it was refused before its turn"
            with pytest.raises(NodeUnreachable, match="refused"):
                await asking

    asyncio.run(body())
