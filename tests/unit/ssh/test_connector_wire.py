"""The end of the connections of one command."""

from __future__ import annotations

import asyncio

from unit.ssh.stubborn import Stubborn, goes_on

from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh.connector import Connector


def test_who_is_cancelled_while_a_hop_ends_does_not_go_on() -> None:
    async def body() -> None:
        stubborn = Stubborn()
        wire = Connector({}, Timeouts())

        async def close() -> None:
            wire._hops["hop",] = asyncio.create_task(stubborn())  # type: ignore[arg-type]
            await stubborn.begun.wait()
            await wire.close()

        assert not await goes_on(stubborn, close())

    asyncio.run(body())
