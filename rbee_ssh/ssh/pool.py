"""What one command works with: the inventory, the registry, and a connection to each node it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rbee_ssh import inventory as inventories
from rbee_ssh.inventory import Inventory
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.connector import Connector

if TYPE_CHECKING:
    from rbee_ssh.registry import Registry
    from rbee_ssh.reporter import Reporter

LATER = 2.0


class ConnectionPool:
    """The nodes of an inventory, connected on first use, one connection each; closed at the end."""

    def __init__(self, inventory: Inventory, registry: Registry, reporter: Reporter) -> None:
        self.inventory = inventory
        self.registry = registry
        self.reporter = reporter
        self._wire = Connector(inventory.nodes, inventory.timeouts)
        self._connections: dict[str, asyncio.Task[Connection]] = {}
        self._begun: set[str] = set()
        self._later: set[asyncio.Task[None]] = set()
        self.started: dict[str, str] = {}  # workers that this command started, each with its node

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._later:
            await asyncio.wait(self._later, timeout=LATER if kind is None else 0)
            for later in self._later:
                later.cancel()
            await asyncio.gather(*self._later, return_exceptions=True)
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(end.close() for end in ended if isinstance(end, Connection)))
        await self._wire.close()

    @property
    def wire(self) -> Connector:
        """What the connections, and the hops on their way, were opened by."""
        return self._wire

    async def connect(self, name: str, *, tries: int | None = None) -> Connection:
        """The connection to a node; a second call gives the same one, a lost one is opened anew.

        Args:
            tries: how often an unreachable node is tried; the inventory's connect_tries when None.

        Raises:
            NodeUnknown, KeyNotFound: before anything is sent.
            NodeFault: the way to the node; see Connector.connect.
        """
        task = self._connections.get(name)
        if name in self._begun:
            self._begun.discard(name)  # however it ended, that is this caller's answer
        elif task is not None and task.done() and (task.exception() or task.result().closed):
            # The new one stands in its place before the old one is waited for: two that ask share it.
            ended, task = task, self._open(name, tries)
            if not ended.exception():
                await ended.result().close()
        if task is None:
            task = self._open(name, tries)
        return await asyncio.shield(task)

    def begin(self, name: str) -> None:
        """Start to connect to a node that `connect` will be asked for, which then waits for less.

        Raises:
            NodeUnknown, KeyNotFound: as `connect`, which has all other errors.
        """
        if name not in self._connections:
            self._open(name, None)
            self._begun.add(name)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what the answer need not wait for. At the end of the command it has LATER seconds more; how it
        ends is nobody's concern."""
        self._later.add(asyncio.ensure_future(work))

    def tell_started(self) -> None:
        """For who leaves early: what this command has started stays, ready or not."""
        for worker_id, node in self.started.items():
            self.reporter.say(f"worker {worker_id} stays on {node}: rbee workers stop {worker_id}")

    def _open(self, name: str, tries: int | None) -> asyncio.Task[Connection]:
        node = inventories.node(self.inventory, name)
        inventories.check_keys(node)
        task = asyncio.ensure_future(self._wire.connect(node, tries=tries))
        self._connections[name] = task
        return task
