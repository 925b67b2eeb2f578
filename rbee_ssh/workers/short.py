"""A model that does not fit, as an error: what it needs, what there is, who holds the rest, what to do.
Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rbee_ssh.errors import ModelFault, RamShort, VramShort
from rbee_ssh.models.memory import Need
from rbee_ssh.workers.fit import VRAM, Balance, Holder
from rbee_ssh.workers.wish import STEP

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for, as far as the error tells it."""

    node: str
    model: str
    context: int
    parallel: int
    evict: bool
    trained: int | None = None  # the longest text that the model was made for


def error(short: Balance, wanted: Wanted, need_at: Callable[[int], int]) -> ModelFault:
    """The error of a shortage.

    Args:
        need_at: bytes of this kind of memory that it would need with a context of so many tokens.
    """
    kind, need = short.kind, short.need
    where = "on the GPU" if kind == VRAM else "of RAM"
    text = (
        f"{wanted.model} with a context of {wanted.context} tokens"
        + (f" × {wanted.parallel}" if wanted.parallel > 1 else "")
        + f" needs {up(need.total)} MiB {where} of node {wanted.node!r}"
        f" ({made_of(need)}), and {short.have // MIB} MiB are free"
    )
    if short.holders:
        text += "; of the rest, workers hold: " + ", ".join(map(_holder, short.holders))
    context = fitting_context(need_at, short.have, min(wanted.context, (wanted.trained or 2**40) + STEP))
    hint = _hint(short, wanted, context)
    details = {
        "node": wanted.node,
        "context": wanted.context,
        "parallel": wanted.parallel,
        "need_mib": up(need.total),
        "have_mib": short.have // MIB,
        "need_bytes": need.total,
        "have_bytes": short.have,
        "free_bytes": short.free,
        "parts": need.parts,
        "fitting_context": context,
        "workers": [
            {"id": one.id, "model": one.model, "state": one.state, "bytes": one.held, "ours": one.ours}
            for one in short.holders
        ],
    }
    if kind == VRAM:
        return VramShort(text, hint=hint, details=details)
    return RamShort(text, hint=hint, details=details)


def made_of(need: Need) -> str:
    """The parts in MiB, such as: weights 94, KV cache 180, compute 120, engine 128."""
    return ", ".join(f"{name} {up(size)}" for name, size in need.parts.items())


def up(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // MIB)


def fitting_context(need_at: Callable[[int], int], have: int, context: int) -> int | None:
    """The largest context below this one that fits, in whole steps; None when not even one step does."""
    low, high = 0, (context - 1) // STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need_at(middle * STEP) <= have else (low, middle - 1)
    return low * STEP or None


def _holder(one: Holder) -> str:
    whose = "" if one.ours else ", another control machine's"
    return f"{one.id} ({one.model}, {up(one.held)} MiB, {one.state}{whose})"


def _hint(short: Balance, wanted: Wanted, context: int | None) -> str:
    lines = []
    if context is not None:
        lines.append(f"--context {context} fits")
    enough = [one for one in short.holders if short.have + one.held >= short.need.total]
    if enough:
        lines.append(f"rbee workers stop {min(enough, key=lambda one: one.held).id}")
    elif short.have + sum(one.held for one in short.holders) >= short.need.total:
        lines.append("rbee workers stop " + " ".join(one.id for one in short.holders))
    if not wanted.evict and any(one.can_go for one in short.holders):
        lines.append("without --no-evict, idle workers are stopped to make room")
    if context is None or not lines:
        lines.append("take a smaller quant of the model, or another node")
    return "\n".join(lines)
