"""How many logins go on at once: each costs this machine CPU time, and a server drops what is too much."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

# With all of hundreds at once, the last one's time runs out while the first are worked on.
LOGINS = 64
# sshd's MaxStartups starts to drop logins at 10 at once.
LOGINS_PER_HOP = 8
# Who does not answer by then gives its place to the next: a dead node holds up no other.
PATIENCE = 0.5


class Gate:
    """Lets so many in at a time; who stays longer than PATIENCE seconds is not counted any more."""

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Wait for a place, and have it until the end of the context."""
        await self._free.acquire()
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(PATIENCE, leave)
        try:
            yield
        finally:
            timer.cancel()
            leave()
