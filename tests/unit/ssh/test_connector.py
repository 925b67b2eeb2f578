"""So many at once, and one that hangs holds up nobody."""

from __future__ import annotations

import asyncio

import pytest

from rbee_ssh.ssh import connector
from rbee_ssh.ssh.connector import LoginLimiter


def test_no_more_than_so_many_are_in_at_once() -> None:
    inside = most = 0

    async def one(way: LoginLimiter) -> None:
        nonlocal inside, most
        async with way.entered():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async def many() -> None:
        way = LoginLimiter(3)
        await asyncio.gather(*(one(way) for _ in range(20)))

    asyncio.run(many())
    assert most == 3


def test_one_that_hangs_gives_up_its_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "PATIENCE", 0.01)

    async def many() -> None:
        way = LoginLimiter(1)
        ends = asyncio.Event()

        async def hangs() -> None:
            async with way.entered():
                await ends.wait()

        hanging = [asyncio.ensure_future(hangs()) for _ in range(3)]
        async with asyncio.timeout(5), way.entered():
            pass
        ends.set()
        await asyncio.gather(*hanging)
        # What was given up early is not given back a second time.
        async with way.entered():
            late = asyncio.ensure_future(way.entered().__aenter__())
            await asyncio.sleep(0)
            assert not late.done()
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)

    asyncio.run(many())


def test_a_fault_inside_gives_the_place_back() -> None:
    async def body() -> None:
        way = LoginLimiter(1)
        with pytest.raises(OSError, match="gone"):
            async with way.entered():
                raise OSError("gone")
        async with asyncio.timeout(5), way.entered():
            pass

    asyncio.run(body())
