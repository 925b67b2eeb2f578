"""Stopping workers: drained, ended by their supervisors, verified gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rbee_ssh.errors import RbeeError, UsageInvalid, WorkerStalled, WorkerUnknown
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import records
from rbee_ssh.workers.records import STOP, Record, WorkerSnapshot

BODY = compose(LIB, LOOK, STOP, then='rbee_init && rbee_stop "$@"')
# stop.sh says a word every 5 s, but for the 10 s that it may wait for the lock.
SILENCE = 20.0

log = logging.getLogger("rbee.worker")


@dataclass(frozen=True, slots=True)
class StopReport:
    """Ids that are gone, those of them that had to be killed, and nodes where not all is, with the reason."""

    stopped: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    unreachable: dict[str, RbeeError] = field(default_factory=dict)


async def stop_on(connection: Connection, ids: Sequence[str], *, drain: float) -> WorkerSnapshot:
    """Stop workers of one node and wait until they are gone.

    Args:
        drain: seconds for running requests to end.

    Raises:
        NodeFault: the connection or its shell. The supervisors on the node go on regardless.
    """
    term = connection.timeouts.term
    args = [str(int(drain)), str(int(term)), *ids]
    snapshot = await records.run(connection, BODY, args, timeout=drain + term + 30, silence=SILENCE)
    for outcome, worker_id, why in snapshot.results:
        log.info("%s: stop worker %s: %s %s", connection.name, worker_id, outcome, why)
    return snapshot


async def stop_workers(
    pool: ConnectionPool, ids: Sequence[str], *, node: str | None, all_: bool, any_owner: bool, now: bool
) -> StopReport:
    """Stop the named workers, or a node's, or all of this control machine's.

    Args:
        any_owner: with node or all_: also those that another control machine started.
        now: do not wait for running requests.

    Raises:
        UsageInvalid: nothing was named, or too much.
        WorkerUnknown: an id that no reachable node knows.
    """
    if sum((bool(ids), node is not None, all_)) != 1:
        raise UsageInvalid(
            "name workers by id, or a node, or all of them",
            hint="rbee workers stop ID…   or --node NAME, or --all",
        )
    names = await _nodes_of(pool, ids, node)
    stopping = _Stopping(pool, tries=1 if len(names) > 1 else None, now=now)
    owner = None if any_owner else await pool.registry.off_loop(pool.registry.client_id)
    taken: set[str] = set()

    async def empty(name: str) -> None:
        """Stop a node's workers; no other node is waited for, since one may be cut off."""
        await stopping.look(name)
        meant = choose({name: stopping.present.get(name, ())}, (), owner, complete=True).get(name, [])
        # A machine that stands in the inventory under two names shows its workers twice.
        mine = [worker_id for worker_id in meant if worker_id not in taken]
        taken.update(mine)
        if mine:
            await stopping.stop(name, mine)

    if ids:
        await asyncio.gather(*(stopping.look(name) for name in names))
        chosen = choose(stopping.present, ids, owner, complete=not stopping.unreachable)
        await asyncio.gather(*(stopping.stop(name, meant) for name, meant in chosen.items()))
    else:
        await asyncio.gather(*(empty(name) for name in names))
    if all_:
        from rbee_ssh.workers.listing import tell_of_others

        await tell_of_others(pool)
    return StopReport(tuple(stopping.stopped), tuple(stopping.forced), stopping.unreachable)


class _Stopping:
    """Nodes that were asked for their workers, and what has become of these."""

    def __init__(self, pool: ConnectionPool, *, tries: int | None, now: bool) -> None:
        self._pool = pool
        self._tries = tries
        self._drain = 0.0 if now else pool.inventory.timeouts.drain
        self.present: dict[str, Sequence[Record]] = {}
        self.stopped: list[str] = []
        self.forced: list[str] = []
        self.unreachable: dict[str, RbeeError] = {}

    async def look(self, name: str) -> None:
        try:
            snapshot = await records.look(await self._pool.connect(name, tries=self._tries))
        except RbeeError as error:
            if error.exit_status == 2:
                raise
            self.unreachable[name] = error
            return
        await records.remember(self._pool, name, snapshot)
        self.present[name] = snapshot.records

    async def stop(self, name: str, ids: Sequence[str]) -> None:
        reporter, drain = self._pool.reporter, self._drain
        busy = [record.id for record in self.present[name] if record.id in ids and record.state == "busy"]
        waits = (
            f"; {', '.join(busy)} may answer for {drain:.0f} s more, without --now" if busy and drain else ""
        )
        reporter.say(f"stopping {', '.join(ids)} on {name}{waits}")
        try:
            snapshot = await stop_on(await self._pool.connect(name, tries=self._tries), ids, drain=drain)
        except RbeeError as error:
            self.unreachable[name] = error
            return
        for outcome, worker_id, _ in snapshot.results:
            if outcome == "forced":
                self.forced.append(worker_id)
                reporter.warn(f"worker {worker_id} on {name} did not end on TERM and was killed")
            elif outcome == "stopped":
                self.stopped.append(worker_id)
                registry = self._pool.registry
                await registry.off_loop(registry.forget, name, worker_id)
            elif outcome == "alive":
                self.unreachable[name] = still_there(worker_id, name)


def still_there(worker_id: str, node: str) -> WorkerStalled:
    """The error for a worker that even KILL did not end."""
    return WorkerStalled(
        f"worker {worker_id} on node {node!r} was killed and is still there: a driver or a disk holds it",
        hint=f"rbee workers list --node {quote(node)}",
        details={"node": node, "worker": worker_id},
    )


def choose(
    present: Mapping[str, Sequence[Record]], ids: Sequence[str], owner: str | None, *, complete: bool
) -> dict[str, list[str]]:
    """Which workers of which node are meant.

    Args:
        present: the records of each node that answered.
        ids: ids, or the starts of them; empty for all of `owner` (None: of anybody).
        complete: whether every node answered; if not, an id may be on one that did not.

    Raises:
        WorkerUnknown: an id that is nobody's, or a start that is several's.
    """
    # By id: a machine that stands in the inventory under two names shows its workers twice.
    by_id = {r.id: (name, r) for name, records in present.items() for r in records if r.state != "stopped"}
    chosen: dict[str, list[str]] = {}
    if not ids:
        for name, record in by_id.values():
            if owner is None or record.spec_text("owner") == owner:
                chosen.setdefault(name, []).append(record.id)
        return chosen
    for wanted in dict.fromkeys(ids):
        meant = [wanted] if wanted in by_id else [each for each in by_id if each.startswith(wanted)]
        if len(meant) > 1 or (not meant and complete):
            raise WorkerUnknown(
                f"{'several workers begin with' if meant else 'there is no worker'} {wanted}",
                hint=f"the known ones: {', '.join(sorted(by_id)) or 'none'}",
                details={"known": sorted(by_id)},
            )
        for worker_id in meant:
            chosen.setdefault(by_id[worker_id][0], []).append(worker_id)
    return chosen


async def _nodes_of(pool: ConnectionPool, ids: Sequence[str], node: str | None) -> list[str]:
    """The nodes to ask: where the registry has these workers, else all of the inventory."""
    if node is not None:
        return [node]
    if ids:
        found = [await pool.registry.off_loop(pool.registry.with_id, worker_id) for worker_id in ids]
        nodes = {entry.node for entries in found for entry in entries}
        if all(found) and nodes <= set(pool.inventory.nodes):
            return sorted(nodes)
    return list(pool.inventory.nodes)
