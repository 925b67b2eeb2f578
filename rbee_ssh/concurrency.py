"""Several things at once, of which none goes on when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def gather_or_cancel(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each of them returns, in their order. The others have ended, too, when this does.

    Raises:
        Exception: what the first that fails raises.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_daemon_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """What `work` returns or raises, from a thread that nobody waits for once it is not wanted any more.

    asyncio's own threads are waited for at the end of the loop and of the program: a server that does not
    answer, or a task of the user's own that hangs, would hold up Ctrl+C.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(end: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(lambda: None if future.done() else end())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            raised = error
            settle(lambda: future.set_exception(raised))
        else:
            settle(lambda: future.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return future
