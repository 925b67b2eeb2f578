"""Which node serves a request that names none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.errors import RamShort

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as placement sees it. Bytes; None where the node could not say."""

    node: str
    ready: bool  # a worker with this match is ready there
    live: bool  # … or on its way
    has_model: bool
    need_bytes: int | None  # of the device it would run on
    have_bytes: int | None  # free there, without what others will still take
    room_bytes: int = 0  # what stopping idle workers would add


def choose(candidates: Sequence[Candidate]) -> str:
    """A ready worker's node, else one where it is loading, else the most free memory that it fits. Where it
    fits only if others are stopped comes last.

    Raises:
        RamShort: it fits nowhere.
    """
    for serving in ([c for c in candidates if c.ready], [c for c in candidates if c.live]):
        if serving:
            return serving[0].node
    for makes_room in (False, True):
        fitting = [c for c in candidates if _fits(c, makes_room)]
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


def _fits(one: Candidate, makes_room: bool) -> bool:
    if one.need_bytes is None or one.have_bytes is None:
        return True
    return one.have_bytes + (one.room_bytes if makes_room else 0) >= one.need_bytes
