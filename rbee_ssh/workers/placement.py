"""Which node serves a request that names none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.errors import RamShort, RbeeError
from rbee_ssh.models.memory import Estimate
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import eviction, worker_memory
from rbee_ssh.workers.fit import RAM, VRAM
from rbee_ssh.workers.prepare import Prepared

MIB = 2**20
log = logging.getLogger("rbee.place")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as placement sees it. Bytes; None where the node could not say."""

    node: str
    ready: bool  # a worker with this match is ready there
    live: bool  # … or on its way
    has_model: bool
    need_bytes: int | None  # of the device it would run on
    have_bytes: int | None  # free there, without what others will still take
    evictable_bytes: int = 0  # what stopping idle workers would add


async def place(pool: ConnectionPool, prepared: Sequence[Prepared]) -> Prepared:
    """The node that serves: see `choose`.

    Raises:
        RamShort: it fits nowhere.
        RbeeError: of the first node, when none can tell what it would take.
    """
    if len(prepared) == 1:
        return prepared[0]
    needs: Sequence[Estimate | None] = [None] * len(prepared)
    if all(node.same is None for node in prepared):  # else one of those that have a worker it will be
        answers = await asyncio.gather(
            *(worker_memory.expected(pool, node) for node in prepared), return_exceptions=True
        )
        estimates = [answer for answer in answers if not isinstance(answer, BaseException)]
        for answer in answers:
            if isinstance(answer, BaseException) and (not isinstance(answer, RbeeError) or not estimates):
                raise answer
            if isinstance(answer, RbeeError):
                pool.reporter.detail(answer.message)
        prepared, needs = [node for node, _ in estimates], [need for _, need in estimates]
    owner = await pool.registry.off_loop(pool.registry.client_id)
    candidates = [candidate(node, need, owner) for node, need in zip(prepared, needs, strict=True)]
    log.info("to choose from: %s", candidates)
    name = choose(candidates)
    return next(node for node in prepared if node.request.node.name == name)


def candidate(prepared: Prepared, need: Estimate | None, owner: str) -> Candidate:
    """The node with its scarcer kind of memory, as far as anybody can tell what the worker needs. Pure."""
    check = None
    if need is not None:
        kind = RAM if not need.device.total or prepared.choice.backend == "metal" else VRAM
        checks = eviction.memory_checks(prepared, need, owner)
        check = next((check for check in checks if check.kind == kind), None)
    return Candidate(
        node=prepared.request.node.name,
        ready=prepared.same is not None and prepared.same.state in ("idle", "busy"),
        live=prepared.same is not None,
        has_model=prepared.model.files is not None,
        need_bytes=check.need.total if check else None,
        have_bytes=check.have if check else None,
        evictable_bytes=sum(holder.held for holder in check.holders if holder.can_go)
        if check and prepared.request.evict
        else 0,
    )


def choose(candidates: Sequence[Candidate]) -> str:
    """A ready worker's node, else one where it is loading, else the most free memory that it fits. Where it
    fits only if others are stopped comes last. Pure.

    Raises:
        RamShort: it fits nowhere.
    """
    for serving in ([c for c in candidates if c.ready], [c for c in candidates if c.live]):
        if serving:
            return serving[0].node
    for evict in (False, True):
        fitting = [c for c in candidates if _fits(c, evict)]
        if fitting:
            # A node that has the file is worth a good deal of memory: nothing needs to be sent.
            return max(fitting, key=lambda c: (c.has_model, c.have_bytes or 0)).node
    each = ", ".join(f"{c.node} {max(0, c.have_bytes or 0) // MIB}" for c in candidates)
    need = max(c.need_bytes or 0 for c in candidates)
    raise RamShort(
        f"the model needs about {-(-need // MIB)} MiB and fits on no node; free, in MiB: {each}",
        hint="a smaller --context, a smaller quant, or rbee workers list and rbee workers stop ID",
        details={
            "need_bytes": {c.node: c.need_bytes for c in candidates},
            "have_bytes": {c.node: c.have_bytes for c in candidates},
        },
    )


def _fits(candidate: Candidate, evict: bool) -> bool:
    if candidate.need_bytes is None or candidate.have_bytes is None:
        return True
    evictable = candidate.evictable_bytes if evict else 0
    return candidate.have_bytes + evictable >= candidate.need_bytes
