"""`models show`: what a model is, what it takes at which context, and on which nodes it fits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rbee_ssh import inventory as inventories
from rbee_ssh.engines.tuning import Tuning
from rbee_ssh.errors import ModelNotFound, RbeeError
from rbee_ssh.models import header as headers
from rbee_ssh.models import outgoing, sources
from rbee_ssh.models.deliver import Source
from rbee_ssh.models.gguf import Gguf
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.models.memory import Estimate
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import eviction, fit
from rbee_ssh.workers.fit import MemoryCheck, MemoryHolder
from rbee_ssh.workers.prepare import Prepared, prepare, remote_of
from rbee_ssh.workers.resolve import ResolvedRequest, resolve, rounded
from rbee_ssh.workers.types import WorkerRequest

CONTEXTS = (4096, 8192, 16384, 32768, 65536, 131072)


@dataclass(frozen=True, slots=True)
class OnNode:
    """What a node says to a model. `balances` is empty and `estimate` None where nobody can tell.

    `fits`: whether it would start there now, `there`: whether the file is on the node, None where nobody can
    tell; `stopped`: the idle workers that would be stopped for it; `error`: why the node says nothing.
    """

    node: str
    prepared: Prepared | None = None
    estimate: Estimate | None = None
    balances: tuple[MemoryCheck, ...] = ()
    fits: bool | None = None
    stopped: tuple[MemoryHolder, ...] = ()
    error: RbeeError | None = None

    @property
    def there(self) -> bool | None:
        if self.prepared is None or not self.prepared.summed:
            return None
        return self.prepared.model is not None

    @property
    def measured(self) -> bool:
        """Whether a worker with these very settings was seen there."""
        one = self.prepared
        return bool(
            one and one.known and eviction.label_of(one, eviction.settings_of(one)) in one.known.measured
        )


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
    wishes = [resolve(request, pool.inventory, inventories.node(pool.inventory, name)) for name in names]
    remote = await remote_of(pool, wishes)
    source = await _source(pool, wishes[0])
    tries = None if len(wishes) == 1 else 1
    answers = await asyncio.gather(
        *(prepare(pool, one, source, remote, tries) for one in wishes), return_exceptions=True
    )
    able = [answer for answer in answers if isinstance(answer, Prepared)]
    for answer in answers:
        if isinstance(answer, BaseException) and (not isinstance(answer, RbeeError) or not able):
            raise answer
    header, able = await _header(pool, able)
    by_name = {one.request.node.name: one for one in able}
    owner = await pool.registry.off_loop(pool.registry.client_id)
    told = [
        OnNode(one.node.name, error=answer)
        if isinstance(answer, RbeeError)
        else on_node(by_name[one.node.name], header, owner)
        for one, answer in zip(wishes, answers, strict=True)
    ]
    first = next((one for one in able if one.model is not None), able[0])
    settings = eviction.settings_of(first)
    contexts = tuple(
        (context, eviction.estimate_of(first, header, replace(settings, context=context)))
        for context in contexts_of(header, request.context, settings.context)
    )
    seen = first.known.measured if first.known else {}
    measured = frozenset(
        context
        for context, _ in contexts
        if eviction.label_of(first, replace(settings, context=context)) in seen
    )
    return Shown(first.request.shown, header, first.model_size, settings, contexts, measured, tuple(told))


async def _source(pool: ConnectionPool, one: ResolvedRequest) -> Source | None:
    """A local file as it is looked for on a node, if it was summed before: its header alone is read here."""
    sha256 = await outgoing.remembered(one.local, pool.registry) if one.local is not None else None
    return Source(one.local, sha256) if one.local is not None and sha256 is not None else None


def contexts_of(header: Gguf, asked: int | None, preset: int) -> list[int]:
    """The contexts worth showing: the one that was asked for, else the preset's or the default, and usual
    ones up to the model's own."""
    if asked is not None:
        return [rounded(asked)]
    longest = header.number("context_length") or CONTEXTS[-1]
    return sorted({context for context in CONTEXTS if context < longest} | {longest, preset or longest})


def on_node(one: Prepared, header: Gguf, owner: str) -> OnNode:
    """Whether the model fits on a node now. Pure."""
    settings = eviction.settings_of(one)
    if one.choice.backend == "auto" or settings.placed:
        return OnNode(one.request.node.name, one)
    found = eviction.estimate_of(one, header, settings)
    balances = tuple(eviction.balances(one, found, owner))
    short = [balance for balance in balances if balance.short]
    stopped = {holder.id: holder for balance in short for holder in fit.to_stop(balance)}
    fits = all(fit.to_stop(balance) for balance in short) if balances else None
    return OnNode(one.request.node.name, one, found, balances, fits, tuple(stopped.values()) if fits else ())


async def _header(pool: ConnectionPool, able: list[Prepared]) -> tuple[Gguf, list[Prepared]]:
    """The whole header, from where it is at hand, and the nodes with it."""
    if (local := able[0].request.local) is not None:
        return await headers.read_local(local[0]), able
    for at, one in enumerate(able):
        known = one.known
        if known is None or one.model is None:
            continue
        if known.header.wants:
            header = await headers.read_on_node(one.connection, one.model.path, one.model.size)
            known = CachedHeader(known.size, known.mtime, header, known.measured)
            await headers.remember(pool.registry, one.connection.name, one.path, known)
            able = [*able[:at], replace(one, known=known), *able[at + 1 :]]
        return known.header, able
    if (remote := able[0].remote) is not None:
        afar = await sources.header(remote, able[0].connection.timeouts, pool.reporter)
        if afar is not None:
            return afar, able
    name = able[0].request.shown
    raise ModelNotFound(
        f"none of these nodes has {name} yet, and its header cannot be read where it is",
        hint=f"rbee models pull {quote(name)} --node {able[0].request.node.name}",
    )
