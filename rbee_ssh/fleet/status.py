"""Every node at a glance: one connection and one round trip each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rbee_ssh.concurrency import gather_or_cancel
from rbee_ssh.errors import NodeUnknown, RbeeError
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.probe import probe
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import records
from rbee_ssh.workers.records import WorkerSnapshot, remember
from rbee_ssh.workers.types import Worker


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node that answered, or why it did not."""

    name: str
    state: str  # up or down; asking, as long as there is no answer
    latency_ms: float | None = None  # to connect and authenticate
    facts: Facts | None = None
    workers: tuple[Worker, ...] = ()
    error: RbeeError | None = None


async def node_status(
    pool: ConnectionPool, nodes: Sequence[str], on_node: Callable[[NodeStatus], None]
) -> list[NodeStatus]:
    """Ask the nodes (all of the inventory when none is named), each once, all at the same time.

    `on_node` gets each status as it comes.

    Raises:
        NodeUnknown: a name that is not in the inventory.
        Exception: what `on_node` raises; then nothing more is asked.
    """
    names = list(nodes) or list(pool.inventory.nodes)
    remembered = {entry.node for entry in await pool.registry.off_loop(pool.registry.workers)}

    async def ask_node(name: str) -> NodeStatus:
        try:
            status, seen = await ask(pool, await pool.connect(name, tries=1))
        except NodeUnknown:
            raise
        except RbeeError as error:
            status = NodeStatus(name, "down", error=error)
        else:
            # To write the same again, for each of hundreds of nodes, would be most of what this process does.
            if not seen.problem and (seen.records or name in remembered):
                await remember(pool, name, seen)
        on_node(status)
        return status

    return await gather_or_cancel(ask_node(name) for name in names)


async def ask(
    pool: ConnectionPool, connection: Connection, earlier: Facts | None = None
) -> tuple[NodeStatus, WorkerSnapshot]:
    """Ask one node; with `earlier` facts no engine is started, and what does not change is taken from them.

    Raises:
        NodeFault: the connection or its shell.
    """
    name = connection.name
    engine = "all" if earlier is None else "none"
    answer = await probe(connection, pool.inventory.nodes[name], engine=engine, brief=True)
    seen, facts = records.parse(answer.snapshot), answer.facts
    if earlier is not None:
        facts = replace(
            facts,
            engines=earlier.engines,
            python=earlier.python,
            looked=earlier.looked,
            linger=earlier.linger,
            kill_user_processes=earlier.kill_user_processes,
            problems=tuple(dict.fromkeys((*earlier.problems, *facts.problems))),
        )
    workers = tuple(records.worker(r, name) for r in seen.records if r.state != "stopped")
    return NodeStatus(name, "up", connection.connect_seconds * 1000, facts, workers), seen
