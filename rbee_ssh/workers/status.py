"""Every node at a glance: one connection and one round trip each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbee_ssh.errors import RbeeError
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.probe import probe
from rbee_ssh.workers import records
from rbee_ssh.workers.fleet import Fleet
from rbee_ssh.workers.look import remember
from rbee_ssh.workers.types import Worker


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node that answered, or why it did not. `latency_ms`: to connect and authenticate."""

    name: str
    state: str  # up or down
    latency_ms: float | None = None
    facts: Facts | None = None
    workers: tuple[Worker, ...] = ()
    error: RbeeError | None = None


async def node_status(
    fleet: Fleet, nodes: Sequence[str], on_node: Callable[[NodeStatus], None]
) -> list[NodeStatus]:
    """Ask the nodes (all of the inventory when none is named), each once, all at the same time.

    Args:
        on_node: told each status as it comes.

    Returns:
        The same in the inventory's order.

    Raises:
        NodeUnknown: a name that is not in the inventory.
    """
    names = list(nodes) or list(fleet.inventory.nodes)

    async def one(name: str) -> NodeStatus:
        status = await _ask(fleet, name)
        on_node(status)
        return status

    return list(await asyncio.gather(*(one(name) for name in names)))


async def _ask(fleet: Fleet, name: str) -> NodeStatus:
    try:
        connection = await fleet.connect(name, tries=1)
        answer = await probe(connection, fleet.inventory.nodes[name], brief=True)
    except RbeeError as error:
        if error.code == "NODE_UNKNOWN":
            raise
        return NodeStatus(name, "down", error=error)
    seen = records.parse(answer.look)
    if not seen.problem:
        remember(fleet, name, seen)
    return NodeStatus(
        name,
        "up",
        latency_ms=connection.connect_seconds * 1000,
        facts=answer.facts,
        workers=tuple(records.worker(r, name) for r in seen.records if r.state != "stopped"),
    )
