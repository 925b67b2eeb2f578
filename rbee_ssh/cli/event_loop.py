"""A command's coroutine, its signals, and stdout's reader going away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import TypeVar

from rbee_ssh.cli.console import OutputClosed
from rbee_ssh.cli.entry import SIGNALS, is_first
from rbee_ssh.errors import Cancelled

T = TypeVar("T")

GRACE = 5.0  # seconds that tidying up after Ctrl+C may take


def run_async(work: Callable[[], Awaitable[T]], *, stream: bool = False, resumes: bool = False) -> T:
    """Run `work` in an event loop and give back what it returns.

    The first Ctrl+C (or SIGTERM, SIGHUP) cancels `work`, which then has GRACE seconds to tidy up; the second
    leaves at once.

    Args:
        work: makes the coroutine.
        stream: it writes to stdout as it goes, and is to end when nobody reads that any more, even while it
            has nothing to write. Not for work that should be finished whoever watches.
        resumes: what was begun is kept, and who cancels is told so.

    Raises:
        Cancelled: a signal came.
        OutputClosed: the reader of stdout went away.
        Exception: whatever `work` raises.
    """
    stop = _Stop("; the same command goes on where it stopped" if resumes else "")

    async def body() -> T:
        stop.loop, stop.task = asyncio.get_running_loop(), asyncio.current_task()
        gc.freeze()  # what was imported until now stays: no collection needs to look at it
        gc.enable()
        with _watched_stdout(stop) if stream else contextlib.nullcontext():
            return await work()

    try:
        with stop.signals():
            result = asyncio.run(body())
    except asyncio.CancelledError:
        stop.check()
        raise Cancelled(f"cancelled{stop.more}") from None
    except BaseException:
        stop.check()
        raise
    stop.check()
    return result


class _Stop:
    """Why and how the running work is to end early."""

    def __init__(self, more: str) -> None:
        self.more = more
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[object] | None = None
        self._signalled = False
        self._closed = False
        self._leave: threading.Timer | None = None

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        # What the parent ignores stays ignored: SIGHUP under nohup, SIGINT in a script's background job.
        before = {s: signal.getsignal(s) for s in SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                # Not loop.add_signal_handler: while a write to a full pipe blocks, the loop does not turn.
                signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not is_first():
            return
        self._signalled = True
        if self.loop is None or self.task is None:
            raise KeyboardInterrupt
        self._leave = threading.Timer(GRACE, _leave)
        self._leave.daemon = True
        self._leave.start()
        self.loop.call_soon_threadsafe(self.task.cancel, signal.Signals(number).name)

    def on_stdout_closed(self) -> None:
        self._closed = True
        if self.task:
            self.task.cancel()

    def check(self) -> None:
        """Raise what ended the work early, if anything did, whatever the work made of being cancelled."""
        if self._leave:
            self._leave.cancel()
        if self._signalled:
            raise Cancelled(f"cancelled{self.more}") from None
        if self._closed:
            raise OutputClosed from None


def _leave() -> None:
    """End while the main thread hangs, perhaps with the console's locks: a word, if it can be had at once."""
    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        if sys.stderr is not None and poll.poll(0) == [(2, select.POLLOUT)]:
            os.write(2, b"cancelled; tidying up took too long\n")
    finally:
        os._exit(Cancelled.exit_status)


@contextlib.contextmanager
def _watched_stdout(stop: _Stop) -> Iterator[None]:
    """Tell `stop` when the reader of the pipe behind stdout has gone."""
    loop = asyncio.get_running_loop()
    if not _is_pipe(1):
        yield
        return

    def look() -> None:
        # For the writing end the only news is that the other end was closed.
        loop.remove_reader(1)
        if reader_gone(1):
            stop.on_stdout_closed()

    try:
        loop.add_reader(1, look)
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(1)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def reader_gone(descriptor: int) -> bool:
    """Whether nobody reads the pipe any more that `descriptor` writes to."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
