"""Before a worker starts: whether there is memory for it, and idle workers of ours stopped to make room."""

from __future__ import annotations

import logging
from pathlib import Path

from rbee_ssh.models.memory import Estimate
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import fit, records
from rbee_ssh.workers.fit import MemoryBudget, MemoryCheck, MemoryHolder, up
from rbee_ssh.workers.prepare import Prepared, prepare
from rbee_ssh.workers.records import STOP
from rbee_ssh.workers.worker_memory import expected

EVICT = Path(__file__).with_name("evict.sh")
BODY = compose(LIB, LOOK, STOP, EVICT, then='rbee_init && rbee_evict "$@"')
# Each round stops what should be enough; a further one is for what came in between.
ROUNDS = 3
log = logging.getLogger("rbee.place")


async def ensure(pool: ConnectionPool, prepared: Prepared) -> tuple[Prepared, MemoryBudget | None]:
    """The node with memory for the worker, and how much that is; None where nobody can tell, or where a
    worker for it lives already. Probed anew if idle workers had to be stopped.

    Raises:
        RamShort, VramShort: it does not fit, and no idle worker of ours is in the way.
        ModelInvalid: its header shows that no engine can serve it.
        NodeFault: the connection or its shell.
    """
    node = prepared.connection.name
    for evicted in range(ROUNDS + 1):
        if prepared.same is not None:
            return prepared, None
        prepared, need = await expected(pool, prepared)
        if need is None:
            return prepared, None
        checks = memory_checks(prepared, need, await pool.registry.off_loop(pool.registry.client_id))
        for check in checks:
            log.info("%s: needs %d bytes of %s, has %d", node, check.need.total, check.kind, check.have)
        short = [check for check in checks if check.short]
        if prepared.model.files is None and prepared.model.remote is not None:
            _refuse_hopeless(prepared, short)
            return prepared, None
        if not short:
            return prepared, fit.budget(need, checks)
        if evicted == ROUNDS or not prepared.request.evict or not await _evict(pool, prepared, short):
            break
        prepared = await prepare(pool, prepared.request)
    from rbee_ssh.workers.shortage import shortage

    raise shortage(prepared, short[0])


def _refuse_hopeless(prepared: Prepared, short: list[MemoryCheck]) -> None:
    """Before a model is fetched of which the size alone is known: refuse what cannot be, and stop nobody yet.

    Raises:
        RamShort, VramShort: its weights alone do not fit, whatever may be stopped.
    """
    for check in short:
        if not (prepared.request.evict and fit.to_stop(check)):
            from rbee_ssh.workers.shortage import shortage

            raise shortage(prepared, check)


def memory_checks(prepared: Prepared, need: Estimate, owner: str) -> list[MemoryCheck]:
    """Each kind of memory of the node against what the worker will take of it."""
    files = prepared.model.files
    return fit.memory_checks(
        need,
        prepared.facts,
        prepared.choice,
        prepared.snapshot.records,
        path=files.path if files else "",
        owner=owner,
    )


async def _evict(pool: ConnectionPool, prepared: Prepared, short: list[MemoryCheck]) -> bool:
    """Stop idle workers of ours that are in the way; whether any is gone."""
    chosen: dict[str, MemoryHolder] = {}
    for check in short:
        going = fit.to_stop(check)
        if not going:
            return False
        chosen |= {holder.id: holder for holder in going}
    connection = prepared.connection
    node, term = connection.name, connection.timeouts.term
    for holder in chosen.values():
        pool.reporter.say(
            f"stopping the idle worker {holder.id} ({holder.model}, {up(holder.held)} MiB) on {node} "
            "to make room"
        )
    snapshot = await records.run(connection, BODY, [str(int(term)), *chosen], timeout=term + 60)
    stopped = False
    for outcome, worker_id, why in snapshot.results:
        log.info("%s: to make room, worker %s: %s %s", node, worker_id, outcome, why)
        if outcome in ("stopped", "unknown"):  # by us, or by somebody else
            stopped = True
            await pool.registry.off_loop(pool.registry.forget, node, worker_id)
        elif outcome == "kept":
            pool.reporter.say(f"worker {worker_id} on {node} is {why} now and stays")
        elif outcome == "forced":
            pool.reporter.warn(f"worker {worker_id} on {node} did not end on TERM and was killed")
    return stopped
