"""The workers of the fleet, as their nodes have them now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rbee_ssh.errors import RbeeError, WorkerUnknown
from rbee_ssh.registry import WorkerEntry
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import records
from rbee_ssh.workers.types import LIVE_STATES, Worker


async def list_workers(
    pool: ConnectionPool, nodes: Sequence[str]
) -> tuple[list[Worker], dict[str, RbeeError]]:
    """All workers on the nodes (all nodes of the inventory when none is named).

    A node that does not answer is in the second value, and its remembered workers are `unknown`.
    Workers that were stopped are not listed; failed and dead ones are, until a cleanup removes them.

    Raises:
        NodeUnknown: a name that is not in the inventory.
    """
    names = list(nodes) or list(pool.inventory.nodes)
    workers: dict[str, list[Worker]] = {}
    unreachable: dict[str, RbeeError] = {}

    async def ask(name: str) -> None:
        try:
            connection = await pool.connect(name, tries=1 if len(names) > 1 else None)
            snapshot = await records.look(connection)
        except RbeeError as error:
            if error.exit_status == 2:
                raise
            unreachable[name] = error
            entries = await pool.registry.off_loop(pool.registry.workers, name)
            workers[name] = [_unknown(entry) for entry in entries]
            return
        await records.remember(pool, name, snapshot)
        workers[name] = [
            records.worker(record, name) for record in snapshot.records if record.state != "stopped"
        ]

    await asyncio.gather(*(ask(name) for name in names))
    if pool.inventory.nodes.keys() <= set(names):
        await tell_of_others(pool)
    return [worker for name in names for worker in workers.get(name, [])], unreachable


async def tell_of_others(pool: ConnectionPool) -> None:
    """Say where workers are remembered that this inventory does not lead to: another one may, or a former."""
    remembered = {entry.node for entry in await pool.registry.off_loop(pool.registry.workers)}
    for node in sorted(remembered - pool.inventory.nodes.keys()):
        pool.reporter.say(
            f"workers were started on {node}, which this inventory does not have; they end with their lease, "
            f"or by an inventory that has it (rbee nodes add {quote(node)})"
        )


def _unknown(entry: WorkerEntry) -> Worker:
    return Worker(
        id=entry.id,
        node=entry.node,
        model=entry.model,
        engine=entry.engine,
        state="unknown",
        endpoint=f"unix:{entry.socket}" if entry.socket else f"tcp:127.0.0.1:{entry.port}",
        pid=entry.pid,
        started_at=entry.created,
        idle_seconds=None,
        lease_seconds=int(entry.lease),
        log=entry.directory + "/log",
        owner=entry.owner,
        match=entry.match,
        context=entry.context,
        parallel=entry.parallel,
    )


async def find_worker(pool: ConnectionPool, worker_id: str) -> Worker:
    """A worker by its id, or by the start of it when that is enough.

    Raises:
        WorkerUnknown: none, or several.
        RbeeError: its node cannot be reached, or no node at all.
    """
    entries = await pool.registry.off_loop(pool.registry.with_id, worker_id)
    nodes = {entry.node for entry in entries} & pool.inventory.nodes.keys()
    workers, unreachable = await list_workers(pool, sorted(nodes))
    if nodes and nodes == unreachable.keys():
        raise next(iter(unreachable.values()))
    # By id: a machine that stands in the inventory under two names shows its workers twice, or, where it can
    # be reached under one of them only, as unknown beside what they are.
    by_id = {w.id: w for w in sorted(workers, key=lambda w: w.state != "unknown")}
    matching = [by_id[worker_id]] if worker_id in by_id else []
    matching = matching or [w for w in by_id.values() if worker_id and w.id.startswith(worker_id)]
    if len(matching) == 1:
        return matching[0]
    if not matching and len(unreachable) == len(pool.inventory.nodes) > 0:
        raise next(iter(unreachable.values()))  # nobody can tell
    known = sorted(worker.id for worker in by_id.values() if worker.state in LIVE_STATES)
    silent = f" on the nodes that answered; {', '.join(sorted(unreachable))} did not" if unreachable else ""
    raise WorkerUnknown(
        f"several workers begin with {worker_id}" if matching else f"there is no worker {worker_id}{silent}",
        hint=f"the known ones: {', '.join(known) or 'none'}",
        details={"known": known, "unreachable": sorted(unreachable)},
    )
