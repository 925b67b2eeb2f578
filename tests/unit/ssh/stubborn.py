"""Work that needs a moment to tidy up, and whoever waits for it is cancelled in that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Stubborn:
    """A coroutine function: runs until it is cancelled, and then until `end` is set."""

    def __init__(self) -> None:
        self.begun, self.tidying, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, *_: object) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.tidying.set()
            await self.end.wait()


async def goes_on(stubborn: Stubborn, waiting: Coroutine[Any, Any, None]) -> bool:
    """Whether `waiting`, cancelled while `stubborn` tidies up, goes on as if it had not been."""
    async with asyncio.timeout(30):
        task = asyncio.create_task(waiting)
        await stubborn.tidying.wait()
        task.cancel()
        await asyncio.sleep(0)
        stubborn.end.set()
        await asyncio.wait([task])
        return not task.cancelled()
