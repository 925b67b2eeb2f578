"""Nodes asked again and again over the connections that are there; one that is gone is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Self

from rbee_ssh.errors import NodeUnreachable, RbeeError, RegistryLocked
from rbee_ssh.fleet.status import NodeStatus, ask
from rbee_ssh.node.probe import LIMIT
from rbee_ssh.registry import WorkerEntry
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import records
from rbee_ssh.workers.records import WorkerSnapshot, remember

INTERVAL = 2.0  # seconds between two questions to a node
ANEW = 60.0  # … and until its engines are started again to see whether they run
# What ends by itself, such as a reboot, is tried again soon; what somebody has to put right, rarely: servers
# lock out who knocks too often.
PASSING = ("NODE_UNREACHABLE", "CONNECTION_LOST", "SESSION_LIMIT", "RESPONSE_INVALID", "NODE_LOCKED")
SOON, RARELY = (2.0, 30.0), (30.0, 300.0)


class Watch:
    """A context manager; inside of it, the nodes of these names are asked, each by a task of its own."""

    def __init__(self, pool: ConnectionPool, nodes: Sequence[str]) -> None:
        self._pool = pool
        self._statuses = {name: NodeStatus(name, "asking") for name in nodes}
        # When the question was sent that has no answer yet, and how many seconds it may take.
        self._asked: dict[str, tuple[float, float]] = {}
        self._remembered: dict[str, list[WorkerEntry]] = {}  # what the registry has from us
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(self._follow(name)) for name in self._statuses]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def seen(self) -> list[NodeStatus]:
        """The statuses now, in the order in which the nodes were named."""
        now = time.monotonic()
        asked = ((status, *self._asked.get(name, (now, 0.0))) for name, status in self._statuses.items())
        return [silent(status, now - sent, patience) for status, sent, patience in asked]

    async def news(self, seconds: float) -> None:
        """Wait for an answer that came after the last call, at most so long.

        Raises:
            Exception: a bug that ended one of the tasks.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def settled(self, seconds: float) -> None:
        """Wait until every node has answered, or is known to be down; at most so long."""
        end = time.monotonic() + seconds
        while any(status.state == "asking" for status in self._statuses.values()) and time.monotonic() < end:
            await self.news(end - time.monotonic())

    async def _follow(self, name: str) -> None:
        last: Connection | None = None
        full, failures = 0.0, 0
        brief = self._pool.inventory.timeouts.connect
        while True:
            began = time.monotonic()
            self._asked[name] = began, brief
            try:
                connection = await self._pool.connect(name, tries=1)
                began = time.monotonic()
                anew = connection is not last or began - full > ANEW
                # Engines that are started may take their time: that is no silence.
                self._asked[name] = began, max(brief, LIMIT) if anew else brief
                earlier = None if anew else self._statuses[name].facts
                status, seen = await ask(self._pool, connection, earlier)
            except RbeeError as error:
                failures += 1
                status, seen = NodeStatus(name, "down", error=error), None
                wait = patience(error, failures) * random.uniform(0.8, 1.2)  # noqa: S311 # jitter, no secret
            else:
                failures, last = 0, connection
                full = began if anew else full
                wait = max(INTERVAL - (time.monotonic() - began), INTERVAL / 2)
            del self._asked[name]
            self._statuses[name] = status
            self._news.set()
            if seen is not None and not seen.problem:
                await self._remember(name, seen)
            await asyncio.sleep(wait)

    async def _remember(self, name: str, seen: WorkerSnapshot) -> None:
        entries = [records.entry(record, name) for record in seen.records]
        if entries != self._remembered.get(name):
            with contextlib.suppress(RegistryLocked):  # there is a next time
                await remember(self._pool, name, seen)
                self._remembered[name] = entries


def patience(error: RbeeError, failures: int) -> float:
    """Seconds until a node that was found down so many times in a row is tried again."""
    passing = error.details.get("cause", error.code) in PASSING
    first, most = SOON if passing else RARELY
    return float(min(first * 2 ** min(failures - 1, 10), most))


def silent(status: NodeStatus, waited: float, patience: float) -> NodeStatus:
    """A node that was up, and has not answered for longer than the question may take, is down."""
    if status.state != "up" or waited <= patience:
        return status
    reason = f"no answer for {waited:.0f} s"
    error = NodeUnreachable(
        f"node {status.name!r}: {reason}",
        hint=f"rbee nodes status {status.name}",
        details={"node": status.name, "attempts": [reason]},
    )
    return NodeStatus(status.name, "down", error=error)
