"""`models show`: what a model is, what it takes at which context, and on which nodes it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rbee_ssh import inventory as inventories
from rbee_ssh.engines.tuning import Tuning
from rbee_ssh.errors import ModelNotFound, RbeeError
from rbee_ssh.models import header as headers
from rbee_ssh.models import sources
from rbee_ssh.models.gguf import Gguf
from rbee_ssh.models.memory import Estimate
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import eviction, fit, worker_memory
from rbee_ssh.workers.fit import MemoryCheck, MemoryHolder
from rbee_ssh.workers.locate import locate
from rbee_ssh.workers.prepare import Prepared, prepare_all
from rbee_ssh.workers.resolve import resolve, rounded
from rbee_ssh.workers.types import WorkerRequest

CONTEXTS = (4096, 8192, 16384, 32768, 65536, 131072)


@dataclass(frozen=True, slots=True)
class OnNode:
    """A node's report on a model. `checks` is empty, `estimate`, `fits` and `has_model` are None where nobody
    can tell.

    `fits`: whether a worker would start there now; `evicted`: the idle workers that would be stopped for it;
    `error`: why there is no report.
    """

    node: str
    prepared: Prepared | None = None
    estimate: Estimate | None = None
    checks: tuple[MemoryCheck, ...] = ()
    fits: bool | None = None
    evicted: tuple[MemoryHolder, ...] = ()
    error: RbeeError | None = None

    @property
    def has_model(self) -> bool | None:
        return self.prepared.has_model if self.prepared else None

    @property
    def measured(self) -> bool:
        """Whether a worker with these very settings was seen there."""
        there = self.prepared
        if there is None or there.model.header is None:
            return False
        return _measured(there, worker_memory.settings_of(there))


@dataclass(frozen=True, slots=True)
class Shown:
    """A model: its header, its size in bytes, and what it takes at some contexts, on the first node's
    engine."""

    model: str
    header: Gguf
    size: int
    settings: Tuning
    contexts: tuple[tuple[int, Estimate], ...]
    measured: frozenset[int]  # contexts with which a worker was seen there
    nodes: tuple[OnNode, ...]


async def show_model(pool: ConnectionPool, request: WorkerRequest, names: Sequence[str]) -> Shown:
    """Read a model's header, where it is, and hold what it needs against what the nodes have.

    Raises:
        RbeeError: of the first node, when there is none that can tell.
        ModelInvalid: no engine can serve it.
    """
    requests = [resolve(request, pool.inventory, inventories.node(pool.inventory, name)) for name in names]
    requests = await locate(pool, requests, read=False)  # its header alone is read here
    answers = await prepare_all(pool, requests)
    able = [answer for answer in answers if isinstance(answer, Prepared)]
    for answer in answers:
        if isinstance(answer, RbeeError) and not able:
            raise answer
    header, able = await _header(pool, able)
    by_name = {prepared.request.node.name: prepared for prepared in able}
    owner = await pool.registry.off_loop(pool.registry.client_id)
    nodes = [
        OnNode(request.node.name, error=answer)
        if isinstance(answer, RbeeError)
        else on_node(by_name[request.node.name], header, owner)
        for request, answer in zip(requests, answers, strict=True)
    ]
    first = next((prepared for prepared in able if prepared.model.files is not None), able[0])
    settings = worker_memory.settings_of(first)
    by_context = {
        context: replace(settings, context=context)
        for context in contexts_of(header, request.context, settings.context)
    }
    estimates = tuple(
        (context, worker_memory.estimate_of(first, header, each)) for context, each in by_context.items()
    )
    measured = frozenset(context for context, each in by_context.items() if _measured(first, each))
    return Shown(first.model.name, header, first.model.size, settings, estimates, measured, tuple(nodes))


def _measured(prepared: Prepared, settings: Tuning) -> bool:
    header = prepared.model.header
    return header is not None and worker_memory.label_of(prepared, settings) in header.measured


def contexts_of(header: Gguf, asked: int | None, preset: int) -> list[int]:
    """The contexts worth showing: the one that was asked for, else the preset's or the default, and usual
    ones up to the model's own."""
    if asked is not None:
        return [rounded(asked)]
    longest = header.number("context_length") or CONTEXTS[-1]
    return sorted({context for context in CONTEXTS if context < longest} | {longest, preset or longest})


def on_node(prepared: Prepared, header: Gguf, owner: str) -> OnNode:
    """Whether the model fits on a node now. Pure."""
    name, settings = prepared.request.node.name, worker_memory.settings_of(prepared)
    if prepared.choice.backend == "auto" or settings.placed:
        return OnNode(name, prepared)
    need = worker_memory.estimate_of(prepared, header, settings)
    checks = tuple(eviction.memory_checks(prepared, need, owner))
    short = [check for check in checks if check.short]
    evicted = {holder.id: holder for check in short for holder in fit.to_stop(check)}
    fits = all(fit.to_stop(check) for check in short) if checks else None
    return OnNode(name, prepared, need, checks, fits, tuple(evicted.values()) if fits else ())


async def _header(pool: ConnectionPool, able: list[Prepared]) -> tuple[Gguf, list[Prepared]]:
    """The whole header, from where it is at hand, and the nodes with it."""
    first = able[0].model
    if first.local is not None:
        return await headers.read_local(first.local[0]), able
    for at, prepared in enumerate(able):
        model, connection = prepared.model, prepared.connection
        if model.header is None or model.files is None:
            continue
        header = model.header
        if header.header.wants:
            whole = await headers.read_on_node(connection, model.files.path, model.files.size)
            header = replace(header, header=whole)
            await headers.remember(pool.registry, connection.name, model.path, header)
            able = [*able[:at], replace(prepared, model=replace(model, header=header)), *able[at + 1 :]]
        return header.header, able
    if first.remote is not None:
        afar = await sources.header(first.remote, able[0].connection.timeouts, pool.reporter)
        if afar is not None:
            return afar, able
    raise ModelNotFound(
        f"none of these nodes has {first.name} yet, and its header cannot be read where it is",
        hint=f"rbee models pull {quote(first.name)} --node {able[0].request.node.name}",
    )
