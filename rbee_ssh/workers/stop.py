"""Stopping workers: drained, ended by their supervisors, verified gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rbee_ssh.errors import RbeeError, UsageInvalid, WorkerStalled, WorkerUnknown
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import records
from rbee_ssh.workers.listing import tell_of_others
from rbee_ssh.workers.records import Record, WorkerSnapshot, complain, remember, snapshot

STOP = Path(__file__).with_name("stop.sh")
BODY = compose(LIB, LOOK, STOP, then='rbee_init && rbee_stop "$@"')
# stop.sh says a word every 5 s, but for the 10 s that it may wait for the lock.
SILENCE = 20.0


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
    result = await script.run(
        connection,
        BODY,
        [str(int(drain)), str(int(term)), *ids],
        timeout=drain + term + 30,
        silence=SILENCE,
    )
    seen = records.parse(result.stdout.split("\n"))
    complain(connection, seen)
    return seen


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
    present: dict[str, Sequence[Record]] = {}
    connections: dict[str, Connection] = {}
    gone: list[str] = []
    forced: list[str] = []
    unreachable: dict[str, RbeeError] = {}

    async def ask(name: str) -> None:
        try:
            connection = await pool.connect(name, tries=1 if len(names) > 1 else None)
            seen = await snapshot(connection)
        except RbeeError as error:
            if error.exit_status == 2:
                raise
            unreachable[name] = error
            return
        await remember(pool, name, seen)
        present[name], connections[name] = seen.records, connection

    async def end(name: str, chosen: Sequence[str]) -> None:
        drain = 0.0 if now else pool.inventory.timeouts.drain
        busy = [one.id for one in present[name] if one.id in chosen and one.state == "busy"]
        waits = (
            f"; {', '.join(busy)} may answer for {drain:.0f} s more, without --now" if busy and drain else ""
        )
        pool.reporter.say(f"stopping {', '.join(chosen)} on {name}{waits}")
        try:
            answer = await stop_on(connections[name], chosen, drain=drain)
        except RbeeError as error:
            unreachable[name] = error
            return
        for word, worker_id, _ in answer.results:
            if word == "forced":
                forced.append(worker_id)
                pool.reporter.warn(f"worker {worker_id} on {name} did not end on TERM and was killed")
            elif word == "stopped":
                gone.append(worker_id)
                await pool.registry.off_loop(pool.registry.forget, worker_id)
            elif word == "alive":
                unreachable[name] = still_there(worker_id, name)

    owner = None if any_owner else await pool.registry.off_loop(pool.registry.client_id)
    taken: set[str] = set()

    async def empty(name: str) -> None:
        """Stop a node's workers; no other node is waited for, since one may be cut off."""
        await ask(name)
        meant = choose({name: present.get(name, ())}, (), owner, complete=True).get(name, [])
        # A machine that stands in the inventory under two names shows its workers twice.
        which = [worker_id for worker_id in meant if worker_id not in taken]
        taken.update(which)
        if which:
            await end(name, which)

    if ids:
        await asyncio.gather(*(ask(name) for name in names))
        chosen = choose(present, ids, owner, complete=not unreachable)
        await asyncio.gather(*(end(name, which) for name, which in chosen.items()))
    else:
        await asyncio.gather(*(empty(name) for name in names))
    if all_:
        await tell_of_others(pool)
    return StopReport(tuple(gone), tuple(forced), unreachable)


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
    there = list(by_id.values())
    chosen: dict[str, list[str]] = {}
    if not ids:
        for name, record in there:
            if owner is None or record.told("owner") == owner:
                chosen.setdefault(name, []).append(record.id)
        return chosen
    known = sorted(record.id for _, record in there)
    for wanted in dict.fromkeys(ids):
        meant = [(n, r) for n, r in there if r.id == wanted] or [
            (n, r) for n, r in there if r.id.startswith(wanted)
        ]
        if len(meant) > 1 or (not meant and complete):
            raise WorkerUnknown(
                f"{'several workers begin with' if meant else 'there is no worker'} {wanted}",
                hint=f"the known ones: {', '.join(known) or 'none'}",
                details={"known": known},
            )
        for name, record in meant:
            chosen.setdefault(name, []).append(record.id)
    return chosen


async def _nodes_of(pool: ConnectionPool, ids: Sequence[str], node: str | None) -> list[str]:
    """The nodes to ask: where the registry has these workers, else all of the inventory."""
    if node is not None:
        return [node]
    if ids:
        entries = [await pool.registry.off_loop(pool.registry.find, worker_id) for worker_id in ids]
        nodes = {entry.node for entry in entries if entry is not None}
        if all(entries) and nodes <= set(pool.inventory.nodes):
            return sorted(nodes)
    return list(pool.inventory.nodes)
