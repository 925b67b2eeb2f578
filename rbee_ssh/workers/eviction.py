"""Before a worker starts: whether there is memory for it, and room made by stopping idle workers of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rbee_ssh.engines.tuning import ALL_LAYERS, Tuning, tuning
from rbee_ssh.errors import RbeeError
from rbee_ssh.models import header as headers
from rbee_ssh.models.gguf import Gguf, Malformed
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.models.memory import Estimate, Need, estimate
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import fit, records
from rbee_ssh.workers.fit import (
    RAM,
    VRAM,
    MemoryBudget,
    MemoryCheck,
    MemoryHolder,
    ShortRequest,
    shortage,
    up,
)
from rbee_ssh.workers.prepare import Prepared, prepare
from rbee_ssh.workers.records import complain
from rbee_ssh.workers.stop import STOP

EVICT = Path(__file__).with_name("evict.sh")
BODY = compose(LIB, LOOK, STOP, EVICT, then='rbee_init && rbee_evict "$@"')
# Each round stops what is known to be enough; a further one is for what came in between.
ROUNDS = 3


async def ensure(
    pool: ConnectionPool, prepared: Prepared, *, evict: bool
) -> tuple[Prepared, MemoryBudget | None]:
    """The node with room for what is wished, and how much that is; None where nobody can tell.

    Args:
        evict: whether idle workers of ours may be stopped for it.

    Raises:
        RamShort, VramShort: it does not fit, and no idle worker of ours is in the way.
        ModelInvalid: its header shows that no engine can serve it.
        NodeFault: the connection or its shell.
    """
    if prepared.model is None and prepared.remote is not None:
        await _refuse_hopeless(pool, prepared, evict=evict)
        return prepared, None
    for _ in range(ROUNDS):
        prepared, found = await expected(pool, prepared)
        if found is None:
            return prepared, None
        both = balances(prepared, found, await pool.registry.off_loop(pool.registry.client_id))
        short = [one for one in both if one.short]
        if not short:
            return prepared, fit.room(found, both)
        if not evict or not await _make_room(pool, prepared, short):
            break
        prepared = await prepare(pool, prepared.request, prepared.source, prepared.remote, None)
        if prepared.same is not None:
            return prepared, None
    raise _error(prepared, short[0], evict=evict)


async def _refuse_hopeless(pool: ConnectionPool, prepared: Prepared, *, evict: bool) -> None:
    """Before a model is fetched of which the size alone is known: refuse what cannot be, and stop nobody yet.

    Raises:
        RamShort, VramShort: its weights alone do not fit, whatever may be stopped.
    """
    weights = weights_of(prepared)
    if weights is None:
        return
    owner = await pool.registry.off_loop(pool.registry.client_id)
    for one in balances(prepared, weights, owner):
        if one.short and not (evict and fit.to_stop(one)):
            raise _error(prepared, one, evict=evict)


def weights_of(prepared: Prepared) -> Estimate | None:
    """The least that a worker takes of a model of which the size alone is known; None where that tells
    nothing: its user places it, or puts a part of it on a GPU, or the engine decides. Pure."""
    settings, weights = settings_of(prepared), Need(weights=prepared.model_size)
    if prepared.choice.backend == "auto" or settings.placed or not weights.total:
        return None
    if not settings.gpu_layers:
        return Estimate(weights)
    return Estimate(Need(), weights) if settings.gpu_layers == ALL_LAYERS else None


@dataclass(frozen=True, slots=True)
class MemoryOffer:
    """What placement weighs: bytes of the scarcer kind of memory there; None where nobody can tell."""

    need: int | None = None
    have: int | None = None
    room: int = 0  # what stopping idle workers would add


def offer(prepared: Prepared, found: Estimate | None, owner: str) -> MemoryOffer:
    """A node's memory for what is wished."""
    if found is None:
        return MemoryOffer()
    kind = RAM if not found.device.total or prepared.choice.backend == "metal" else VRAM
    for one in balances(prepared, found, owner):
        if one.kind == kind:
            return MemoryOffer(one.need.total, one.have, sum(h.held for h in one.holders if h.can_go))
    return MemoryOffer()


async def expected(pool: ConnectionPool, prepared: Prepared) -> tuple[Prepared, Estimate | None]:
    """What a worker for this wish will take; None where nobody can tell, or the user places it. With it the
    node, and the model's header. Of a model that is yet to come from the hub or a URL: its weights.

    Raises:
        ModelInvalid: its header shows that no engine can serve it.
        NodeFault: the connection or its shell.
    """
    if prepared.choice.backend == "auto" or settings_of(prepared).placed:
        return prepared, None
    prepared = await _with_header(pool, prepared)
    if prepared.known is None:
        return prepared, weights_of(prepared)
    return prepared, estimate_of(prepared, prepared.known.header, settings_of(prepared))


def settings_of(prepared: Prepared) -> Tuning:
    """The settings of the worker that would be started."""
    wanted = prepared.request
    return tuning(
        prepared.choice.engine.name,
        context=wanted.context,
        parallel=wanted.parallel,
        backend=prepared.choice.backend,
        args=wanted.args,
    )


def estimate_of(prepared: Prepared, header: Gguf, settings: Tuning) -> Estimate:
    """What a worker with these settings would take, corrected by what one was seen to take.

    Raises:
        ModelInvalid: the header shows that no engine can serve it.
    """
    devices = fit.device_count(prepared.facts, prepared.choice)
    try:
        found = estimate(header, prepared.model_size, settings, devices=devices)
    except Malformed as problem:
        path = prepared.model.path if prepared.model else prepared.request.shown
        raise headers.invalid(path, prepared.request.node.name, problem) from problem
    seen = prepared.known.measured.get(label_of(prepared, settings)) if prepared.known else None
    return fit.corrected(found, seen) if seen else found


def label_of(prepared: Prepared, settings: Tuning) -> str:
    """What a measurement of the worker is kept under: nothing else than what it was made with."""
    choice, node = prepared.choice, prepared.request.node
    also = [
        prepared.request.device or "",
        *prepared.request.args,
        *(f"{name}={value}" for name, value in node.env),
    ]
    return headers.label(choice.engine.name, choice.backend, settings.context, settings.slots, also)


def beyond(prepared: Prepared) -> str | None:
    """A context that the model was not made for; not told to who stretches it by RoPE or YaRN."""
    trained = prepared.known.header.number("context_length") if prepared.known else None
    asked = settings_of(prepared).context
    if not trained or asked <= trained or any("rope" in a or "yarn" in a for a in prepared.request.args):
        return None
    return (
        f"a context of {asked} tokens is more than the {trained} that {prepared.request.shown} was made for: "
        f"--context {trained}"
    )


async def _with_header(pool: ConnectionPool, prepared: Prepared) -> Prepared:
    """With the model's header: as it is known, read on the node, or from the file that is to be sent."""
    known, model, source = prepared.known, prepared.model, prepared.source
    if known is not None and known.header.tells:
        return prepared
    connection, file = prepared.connection, prepared.facts.model
    if model is not None and file is not None and file.size is not None:
        header = await headers.read_on_node(connection, model.path, file.size)
        known = CachedHeader(file.size, model.mtime, header)
        await headers.remember(pool.registry, connection.name, prepared.path, known)
    elif source is not None:
        path, size, mtime = source.stamp
        known = CachedHeader(size, mtime // 10**9, await headers.read_local(path))
    return replace(prepared, known=known)


def balances(prepared: Prepared, found: Estimate, owner: str) -> list[MemoryCheck]:
    """Each kind of memory of the node against what the worker will take of it."""
    return fit.balances(
        found,
        prepared.facts,
        prepared.choice,
        prepared.look.records,
        path=prepared.model.path if prepared.model else "",
        owner=owner,
    )


async def _make_room(pool: ConnectionPool, prepared: Prepared, short: list[MemoryCheck]) -> bool:
    """Stop idle workers of ours that are in the way; whether any is gone."""
    chosen: dict[str, MemoryHolder] = {}
    for one in short:
        going = fit.to_stop(one)
        if not going:
            return False
        chosen |= {holder.id: holder for holder in going}
    node = prepared.connection.name
    for holder in chosen.values():
        pool.reporter.say(
            f"stopping the idle worker {holder.id} ({holder.model}, {up(holder.held)} MiB) on {node} "
            "to make room"
        )
    term = prepared.connection.timeouts.term
    result = await script.run(prepared.connection, BODY, [str(int(term)), *chosen], timeout=term + 60)
    seen = records.parse(result.stdout.split("\n"))
    complain(prepared.connection, seen)
    stopped = False
    for word, worker_id, why in seen.results:
        if word in ("stopped", "unknown"):  # by us, or by somebody else
            stopped = True
            await pool.registry.off_loop(pool.registry.forget, worker_id)
        elif word == "kept":
            pool.reporter.say(f"worker {worker_id} on {node} is {why} now and stays")
        elif word == "forced":
            pool.reporter.warn(f"worker {worker_id} on {node} did not end on TERM and was killed")
    return stopped


def _error(prepared: Prepared, short: MemoryCheck, *, evict: bool) -> RbeeError:
    header = prepared.known.header if prepared.known else None
    settings = settings_of(prepared)

    def need_at(context: int) -> int:
        if header is None:
            return short.need.total
        found = estimate_of(prepared, header, replace(settings, context=context))
        return found.device.total if short.kind == VRAM else found.ram.total

    wanted = ShortRequest(
        node=prepared.connection.name,
        model=prepared.request.shown,
        context=settings.context,
        parallel=settings.slots,
        evict=evict,
        trained=header.number("context_length") if header else None,
    )
    return shortage(short, wanted, need_at)
