"""Which node serves a request that names none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.errors import RamShort

MIB = 2**20
# Compute buffers and the engine itself, on top of weights and a tenth for the cache.
OVERHEAD_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as placement sees it. Bytes; None where the node could not say."""

    node: str
    ready: bool  # a worker with this match is ready there
    live: bool  # … or on its way
    has_model: bool
    free_bytes: int | None  # of the device it would run on
    claimed_bytes: int = 0  # what workers still loading there will take


def need_bytes(model_bytes: int) -> int:
    """A floor for the memory that a model takes: its weights, a tenth for the cache, and the engine."""
    return model_bytes + model_bytes // 10 + OVERHEAD_BYTES


def choose(candidates: Sequence[Candidate], model_bytes: int) -> str:
    """A ready worker's node, else one where it is loading, else the most free memory that it fits.

    Raises:
        RamShort: it fits nowhere.
    """
    for serving in ([c for c in candidates if c.ready], [c for c in candidates if c.live]):
        if serving:
            return serving[0].node
    need = need_bytes(model_bytes)
    fitting = [c for c in candidates if c.free_bytes is None or c.free_bytes - c.claimed_bytes >= need]
    if not fitting:
        have = ", ".join(
            f"{c.node} {max(0, (c.free_bytes or 0) - c.claimed_bytes) // MIB} MiB" for c in candidates
        )
        raise RamShort(
            f"the model needs about {need // MIB} MiB and fits on no node; free: {have}",
            hint="rbee workers list   # then rbee workers stop ID, or take a smaller quant",
            details={
                "need_bytes": need,
                "model_bytes": model_bytes,
                "free_bytes": {c.node: c.free_bytes for c in candidates},
            },
        )
    # A node that has the file is worth a good deal of memory: nothing needs to be sent.
    return max(fitting, key=lambda c: (c.has_model, (c.free_bytes or 0) - c.claimed_bytes)).node
