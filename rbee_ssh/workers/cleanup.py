"""Idle cleanup: one script a node decides under the node's lock, by the idle time counted there."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from rbee_ssh.errors import RbeeError
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import records
from rbee_ssh.workers.records import STOP

CLEANUP = Path(__file__).with_name("cleanup.sh")
BODY = compose(LIB, LOOK, STOP, CLEANUP, then='rbee_init && rbee_cleanup "$@" && rbee_show_all')
log = logging.getLogger("rbee.worker")
JUST_USED = "used a moment ago"  # what keeps a worker whose idle time, counted in ticks, is long enough


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """What a cleanup did: ids; `kept` with the reason; nodes that could not be asked."""

    stopped: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    pruned: tuple[str, ...] = ()
    unreachable: dict[str, RbeeError] = field(default_factory=dict)


async def cleanup(pool: ConnectionPool, *, idle: float, dry_run: bool, any_owner: bool) -> CleanupReport:
    """Stop the workers that have been idle for `idle` seconds; forget the dead; adopt the forgotten.

    One run at a time: while another of this control machine is under way, nothing is done.

    Args:
        dry_run: only say what would be done.
        any_owner: also those that another control machine started.
    """
    with pool.registry.alone("cleanup") as alone:
        if not alone:
            pool.reporter.detail("another cleanup is under way")
            return CleanupReport()
        return await _cleanup(pool, idle=idle, dry_run=dry_run, any_owner=any_owner)


async def _cleanup(pool: ConnectionPool, *, idle: float, dry_run: bool, any_owner: bool) -> CleanupReport:
    term = pool.inventory.timeouts.term
    owner = "" if any_owner else await pool.registry.off_loop(pool.registry.client_id)
    args = [str(int(idle)), "1" if dry_run else "", owner, str(int(term))]
    stopped: list[str] = []
    kept: list[tuple[str, str]] = []
    pruned: list[str] = []
    unreachable: dict[str, RbeeError] = {}

    async def clean(name: str) -> None:
        try:
            connection = await pool.connect(name, tries=1)
            snapshot = await records.run(connection, BODY, args, timeout=term + 60)
        except RbeeError as error:
            unreachable[name] = error
            return
        await records.remember(pool, name, snapshot)
        for outcome, worker_id, why in snapshot.results:
            log.info("%s: clean up worker %s: %s %s", name, worker_id, outcome, why)
            if outcome == "stopped":
                stopped.append(worker_id)
            elif outcome == "kept":
                kept.append((worker_id, why))
            elif outcome == "alive":
                kept.append((worker_id, "was killed, and is still there"))
            elif outcome == "pruned":
                pruned.append(worker_id)
            elif outcome == "forced":
                pool.reporter.warn(f"worker {worker_id} on {name} did not end on TERM and was killed")

    await asyncio.gather(*(clean(name) for name in pool.inventory.nodes))
    # A machine that stands in the inventory under two names told everything twice.
    gone = {*stopped, *pruned}
    left = {worker_id: why for worker_id, why in kept if worker_id not in gone}
    return CleanupReport(
        tuple(dict.fromkeys(stopped)), tuple(left.items()), tuple(dict.fromkeys(pruned)), unreachable
    )
