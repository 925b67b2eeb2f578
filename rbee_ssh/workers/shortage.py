"""A shortage of memory, as the error for the user: what is needed, what there is, and what to type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rbee_ssh.errors import ModelFault, RamShort, VramShort
from rbee_ssh.models.memory import Need
from rbee_ssh.workers.fit import MIB, VRAM, MemoryCheck, MemoryHolder, up
from rbee_ssh.workers.prepare import Prepared
from rbee_ssh.workers.resolve import STEP
from rbee_ssh.workers.worker_memory import estimate_of, settings_of


def shortage(prepared: Prepared, short: MemoryCheck) -> ModelFault:
    """The error for a worker that does not fit on a node."""
    header = prepared.model.header.header if prepared.model.header else None
    settings = settings_of(prepared)

    def need_at(context: int) -> int:
        if header is None:
            return short.need.total
        need = estimate_of(prepared, header, replace(settings, context=context))
        return need.device.total if short.kind == VRAM else need.ram.total

    return in_words(
        short,
        need_at,
        node=prepared.connection.name,
        model=prepared.model.name,
        context=settings.context,
        parallel=settings.slots,
        evict=prepared.request.evict,
        trained=header.number("context_length") if header else None,
    )


def in_words(
    short: MemoryCheck,
    need_at: Callable[[int], int],
    *,
    node: str,
    model: str,
    context: int,
    parallel: int,
    evict: bool,
    trained: int | None = None,
) -> ModelFault:
    """The error of a shortage. Pure.

    Args:
        need_at: bytes of this kind of memory that the worker would need with a context of so many tokens.
        trained: the longest text that the model was made for.
    """
    kind, need = short.kind, short.need
    where = "on the GPU" if kind == VRAM else "of RAM"
    text = (
        f"{model} with a context of {context} tokens"
        + (f" × {parallel}" if parallel > 1 else "")
        + f" needs {up(need.total)} MiB {where} of node {node!r}"
        f" ({made_of(need)}), and {short.have // MIB} MiB are free"
    )
    if short.holders:
        text += "; of the rest, workers hold: " + ", ".join(map(_holder, short.holders))
    fitting = fitting_context(need_at, short.have, min(context, (trained or 2**40) + STEP))
    hint = _hint(short, fitting, evict=evict)
    details = {
        "node": node,
        "context": context,
        "parallel": parallel,
        "need_mib": up(need.total),
        "have_mib": short.have // MIB,
        "need_bytes": need.total,
        "have_bytes": short.have,
        "free_bytes": short.free,
        "parts": need.parts,
        "fitting_context": fitting,
        "workers": [
            {"id": each.id, "model": each.model, "state": each.state, "bytes": each.held, "ours": each.ours}
            for each in short.holders
        ],
    }
    if kind == VRAM:
        return VramShort(text, hint=hint, details=details)
    return RamShort(text, hint=hint, details=details)


def made_of(need: Need) -> str:
    """The parts in MiB, such as: weights 94, KV cache 180, compute 120, engine 128."""
    return ", ".join(f"{name} {up(size)}" for name, size in need.parts.items())


def fitting_context(need_at: Callable[[int], int], have: int, context: int) -> int | None:
    """The largest context below this one that fits, in whole steps; None when not even one step does."""
    low, high = 0, (context - 1) // STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need_at(middle * STEP) <= have else (low, middle - 1)
    return low * STEP or None


def _holder(holder: MemoryHolder) -> str:
    whose = "" if holder.ours else ", another control machine's"
    return f"{holder.id} ({holder.model}, {up(holder.held)} MiB, {holder.state}{whose})"


def _hint(short: MemoryCheck, context: int | None, *, evict: bool) -> str:
    lines = []
    if context is not None:
        lines.append(f"--context {context} fits")
    enough = [holder for holder in short.holders if short.have + holder.held >= short.need.total]
    if enough:
        lines.append(f"rbee workers stop {min(enough, key=lambda holder: holder.held).id}")
    elif short.have + sum(holder.held for holder in short.holders) >= short.need.total:
        lines.append("rbee workers stop " + " ".join(holder.id for holder in short.holders))
    if not evict and any(holder.can_go for holder in short.holders):
        lines.append("without --no-evict, idle workers are stopped to make room")
    if context is None or not lines:
        lines.append("take a smaller quant of the model, or another node")
    return "\n".join(lines)
