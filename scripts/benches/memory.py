"""How much memory a worker takes: as `rbee models show` says before its start, as the kernel says after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benches import report
from benches.bed import Bed, bed
from rbee_ssh.node.scripts import LIB, compose

TITLE = "memory estimated and measured"
PARTS = ("llama-server", "xllamacpp", "llama-cpp-python")
CONTEXTS = (512, 2048, 8192)
SLOTS = (1, 4)
MIB = 2**20
HEAD = (
    *("", "estimate", "after the load", "after three prompts", "estimate over that"),
    *("cache over 512 tokens, estimate", "measured", "off by"),
)
# About 450 tokens: nearly a whole batch of 512, so that the compute buffer has been used. Three that begin
# differently: what is kept of a prompt that its slot has left is seen with the next one.
PROMPTS = tuple(f"{who} counts the waves. " * 60 for who in ("The keeper", "A sailor", "Nobody"))
NOTE = """Own pages and mapped files of the worker's process group, in MiB. The estimate is made before the
first start, without what earlier workers were seen to take. The cache alone is what a context takes more of
own pages, after the load, than one of 512 tokens with as many slots. llama-cpp-python has one slot, whatever
is asked for."""


@dataclass(frozen=True, slots=True)
class NodeObservation:
    """One worker. Bytes."""

    context: int
    slots: int
    estimate: int
    cache: int  # of the estimate
    own: int  # after the load
    loaded: int
    used: int  # the most it had after a prompt


def measure(*, quick: bool, parts: Sequence[str]) -> str:
    """The benchmark's section of docs/benchmarks.md.

    Args:
        quick: one slot and the two smaller contexts.
        parts: of PARTS, those to measure; all when empty.
    """
    machine = report.machine()
    rows: list[tuple[str, ...]] = []
    for engine in parts or PARTS:
        with bed(engine) as place:
            for slots in SLOTS[:1] if quick else SLOTS:
                seen = [_one(place, context, slots) for context in (CONTEXTS[:2] if quick else CONTEXTS)]
                rows += [_row(engine, one, seen[0]) for one in seen]
    return "\n\n".join([f"## {TITLE[0].upper()}{TITLE[1:]}", machine, report.table(HEAD, rows), NOTE])


def _one(place: Bed, context: int, slots: int) -> NodeObservation:
    """Start a worker, look at it, have it read a prompt, look again, stop it."""
    which = ["--context", str(context), "--parallel", str(slots), "--node", place.node.name]
    reference = f"file://{place.model}"
    place.control.home.joinpath(".local/state/rbee/registry.json").unlink(missing_ok=True)
    shown = place.control.rbee("--json", "models", "show", reference, *which, check=True)
    (estimate,) = json.loads(shown.stdout)["memory"]
    started = place.control.rbee("--json", "workers", "start", "--model", reference, *which, check=True)
    pid = json.loads(started.stdout)["worker"]["pid"]
    own, files, _ = _memory(place, pid)
    for prompt in PROMPTS:
        place.control.rbee(
            *("-q", "infer", "--model", reference, *which, "--max-tokens", "8", prompt),
            check=True,
            timeout=300,
        )
    after_own, after_files, peak = _memory(place, pid)
    place.stop()
    return NodeObservation(
        context=context,
        slots=slots,
        estimate=estimate["ram_bytes"],
        cache=estimate["ram_parts"]["KV cache"],
        own=own,
        loaded=own + files,
        used=max(after_own + after_files, peak),
    )


def _memory(place: Bed, pid: int) -> tuple[int, int, int]:
    """Bytes of a process group: its own, of mapped files, and the most that both were."""
    said = place.node.exec_local(compose(LIB, then=f'rbee_memory {pid}; echo "$MEMORY"')).stdout
    own, files, peak = (int(size) * 1024 for size in said.split())
    return own, files, peak


def _row(engine: str, one: NodeObservation, first: NodeObservation) -> tuple[str, ...]:
    more, measured = one.cache - first.cache, one.own - first.own
    cache = (
        (f"{more / MIB:.0f}", f"{measured / MIB:.0f}", f"{measured / more - 1:+.1%}") if more else ("",) * 3
    )
    return (
        f"{engine}, {one.context} × {one.slots}",
        *(f"{size / MIB:.0f}" for size in (one.estimate, one.loaded, one.used)),
        f"{one.estimate / one.used:.2f}",
        *cache,
    )
