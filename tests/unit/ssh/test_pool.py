"""One connection a node, whoever asks, whatever became of the one before. Over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from rbee_ssh.errors import KeyNotFound, NodeUnknown, NodeUnreachable
from rbee_ssh.inventory import Inventory, Node, Timeouts
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.pool import ConnectionPool

T = TypeVar("T")
NODES = {
    "localhost": Node("localhost", "localhost"),
    "nobody": Node("nobody", "127.0.0.1", port=1),
    "keyless": Node("keyless", "127.0.0.1", identity_file=Path("/nowhere/id")),
}


def with_fleet(directory: Path, work: Callable[[ConnectionPool], Awaitable[T]]) -> T:
    inventory = Inventory(NODES, timeouts=Timeouts(connect=2, connect_tries=1))

    async def body() -> T:
        async with ConnectionPool(
            inventory, Registry(directory / "r.json", reporter=SilentReporter()), SilentReporter()
        ) as pool:
            return await work(pool)

    return asyncio.run(body())


def test_who_asks_at_the_same_time_shares_a_connection(tmp_path: Path) -> None:
    async def work(pool: ConnectionPool) -> None:
        first, second = await asyncio.gather(*(pool.connect("localhost") for _ in range(2)))
        assert first is second
        assert await pool.connect("localhost") is first

    with_fleet(tmp_path, work)


def test_a_lost_connection_is_replaced_once(tmp_path: Path) -> None:
    async def work(pool: ConnectionPool) -> None:
        lost = await pool.connect("localhost")
        lost.ssh.abort()
        await lost.ssh.wait_closed()
        first, second = await asyncio.gather(*(pool.connect("localhost") for _ in range(2)))
        assert first is second is not lost
        assert not first.closed

    with_fleet(tmp_path, work)


def test_what_fails_is_said_to_each_and_tried_again(tmp_path: Path) -> None:
    async def work(pool: ConnectionPool) -> None:
        tries = [pool.connect("nobody", tries=1) for _ in range(2)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(end) for end in ended] == [NodeUnreachable, NodeUnreachable]
        with pytest.raises(NodeUnreachable):
            await pool.connect("nobody", tries=1)
        with pytest.raises(KeyNotFound):
            await pool.connect("keyless")
        with pytest.raises(NodeUnknown):
            await pool.connect("nowhere")

    with_fleet(tmp_path, work)


def test_an_answer_that_nobody_waits_for_any_more_is_no_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(pool: ConnectionPool) -> None:
        pool.begin("nobody")
        pool.begin("localhost")
        asking = asyncio.ensure_future(pool.connect("localhost"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.sleep(0.1)

    with_fleet(tmp_path, work)
    assert caplog.records == []


@pytest.mark.parametrize("turns", range(0, 40, 3))
def test_a_command_that_is_cancelled_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    """At any step of a login. Warnings, of unclosed sockets and forgotten tasks, are errors here."""

    async def work(pool: ConnectionPool) -> None:
        asking = asyncio.ensure_future(pool.connect("localhost"))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    with_fleet(tmp_path, work)
    assert caplog.records == []
