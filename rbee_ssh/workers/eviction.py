"""Before a worker starts: whether there is memory for it, and idle workers of ours stopped to make room."""

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
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import fit, records
from rbee_ssh.workers.fit import RAM, VRAM, MemoryBudget, MemoryCheck, MemoryHolder, up
from rbee_ssh.workers.prepare import Prepared, prepare
from rbee_ssh.workers.records import STOP

EVICT = Path(__file__).with_name("evict.sh")
BODY = compose(LIB, LOOK, STOP, EVICT, then='rbee_init && rbee_evict "$@"')
# Each round stops what should be enough; a further one is for what came in between.
ROUNDS = 3


async def ensure(pool: ConnectionPool, prepared: Prepared) -> tuple[Prepared, MemoryBudget | None]:
    """The node with memory for the worker, and how much that is; None where nobody can tell, or where a
    worker for it lives already. Probed anew if idle workers had to be stopped.

    Raises:
        RamShort, VramShort: it does not fit, and no idle worker of ours is in the way.
        ModelInvalid: its header shows that no engine can serve it.
        NodeFault: the connection or its shell.
    """
    for evicted in range(ROUNDS + 1):
        if prepared.same is not None:
            return prepared, None
        prepared, need = await expected(pool, prepared)
        if need is None:
            return prepared, None
        checks = memory_checks(prepared, need, pool.registry.client_id())
        short = [check for check in checks if check.short]
        if prepared.model.files is None and prepared.model.remote is not None:
            _refuse_hopeless(prepared, short)
            return prepared, None
        if not short:
            return prepared, fit.budget(need, checks)
        if evicted == ROUNDS or not prepared.request.evict or not await _evict(pool, prepared, short):
            break
        prepared = await prepare(pool, prepared.request)
    raise _shortage(prepared, short[0])


def _refuse_hopeless(prepared: Prepared, short: list[MemoryCheck]) -> None:
    """Before a model is fetched of which the size alone is known: refuse what cannot be, and stop nobody yet.

    Raises:
        RamShort, VramShort: its weights alone do not fit, whatever may be stopped.
    """
    for check in short:
        if not (prepared.request.evict and fit.to_stop(check)):
            raise _shortage(prepared, check)


def weights_of(prepared: Prepared) -> Estimate | None:
    """The least that a worker takes of a model of which the size alone is known; None where that tells
    nothing: its user places it, or puts a part of it on a GPU, or the engine decides. Pure."""
    settings, weights = settings_of(prepared), Need(weights=prepared.model.size)
    if _unknown(prepared) or not weights.total:
        return None
    if not settings.gpu_layers:
        return Estimate(weights)
    return Estimate(Need(), weights) if settings.gpu_layers == ALL_LAYERS else None


@dataclass(frozen=True, slots=True)
class MemoryOffer:
    """What placement weighs: bytes of the scarcer kind of memory there; None where nobody can tell."""

    need: int | None = None
    have: int | None = None
    evictable: int = 0  # what stopping idle workers would add


def offer(prepared: Prepared, need: Estimate | None, owner: str) -> MemoryOffer:
    """A node's memory for the worker."""
    if need is None:
        return MemoryOffer()
    kind = RAM if not need.device.total or prepared.choice.backend == "metal" else VRAM
    for check in memory_checks(prepared, need, owner):
        if check.kind == kind:
            return MemoryOffer(check.need.total, check.have, sum(h.held for h in check.holders if h.can_go))
    return MemoryOffer()


async def expected(pool: ConnectionPool, prepared: Prepared) -> tuple[Prepared, Estimate | None]:
    """What the worker will take; None where nobody can tell, or the user places it. With it the node, and the
    model's header. Of a model that is yet to come from the hub or a URL: its weights.

    Raises:
        ModelInvalid: its header shows that no engine can serve it.
        NodeFault: the connection or its shell.
    """
    if _unknown(prepared):
        return prepared, None
    prepared = await _with_header(pool, prepared)
    if prepared.model.header is None:
        return prepared, weights_of(prepared)
    return prepared, estimate_of(prepared, prepared.model.header.header, settings_of(prepared))


def _unknown(prepared: Prepared) -> bool:
    """Whether nobody can tell what the worker will take of what: the engine or the user decides."""
    return prepared.choice.backend == "auto" or settings_of(prepared).placed


def settings_of(prepared: Prepared) -> Tuning:
    """The settings of the worker that would be started."""
    request = prepared.request
    return tuning(
        prepared.choice.engine.name,
        context=request.context,
        parallel=request.parallel,
        backend=prepared.choice.backend,
        args=request.args,
    )


def estimate_of(prepared: Prepared, header: Gguf, settings: Tuning) -> Estimate:
    """What a worker with these settings would take, corrected by what one was seen to take.

    Raises:
        ModelInvalid: the header shows that no engine can serve it.
    """
    devices, model = fit.device_count(prepared.facts, prepared.choice), prepared.model
    try:
        need = estimate(header, model.size, settings, devices=devices)
    except Malformed as problem:
        path = model.files.path if model.files else model.name
        raise headers.invalid(path, prepared.request.node.name, problem) from problem
    measured = model.header.measured.get(label_of(prepared, settings)) if model.header else None
    return fit.corrected(need, measured) if measured else need


def label_of(prepared: Prepared, settings: Tuning) -> str:
    """What a measurement of the worker is kept under: nothing else than what it was made with."""
    choice, request = prepared.choice, prepared.request
    also = [
        request.device or "",
        *request.args,
        *(f"{name}={value}" for name, value in request.node.env),
    ]
    return headers.label(choice.engine.name, choice.backend, settings.context, settings.slots, also)


def beyond(prepared: Prepared) -> str | None:
    """A context that the model was not made for; not told to who stretches it by RoPE or YaRN."""
    header, args = prepared.model.header, prepared.request.args
    trained = header.header.number("context_length") if header else None
    context = settings_of(prepared).context
    if not trained or context <= trained or any("rope" in a or "yarn" in a for a in args):
        return None
    return (
        f"a context of {context} tokens is more than the {trained} that {prepared.model.name} was made for: "
        f"--context {trained}"
    )


async def _with_header(pool: ConnectionPool, prepared: Prepared) -> Prepared:
    """With the model's header: as it is remembered, of the file here that has the same bytes, or read on the
    node."""
    model, connection = prepared.model, prepared.connection
    files, source = model.files, model.source
    if model.header is not None and model.header.header.tells:
        return prepared
    if source is not None:
        path, size, mtime = source.stamp
        header = CachedHeader(size, mtime // 10**9, await headers.read_local(path))
    elif files is not None:
        header = CachedHeader(0, 0, await headers.read_on_node(connection, files.path, files.size))
    else:
        return prepared
    if files is not None:
        header = replace(header, size=files.size, mtime=files.mtime)
        headers.remember(pool.registry, connection.name, model.path, header)
    return replace(prepared, model=replace(model, header=header))


def memory_checks(prepared: Prepared, need: Estimate, owner: str) -> list[MemoryCheck]:
    """Each kind of memory of the node against what the worker will take of it."""
    files = prepared.model.files
    return fit.memory_checks(
        need,
        prepared.facts,
        prepared.choice,
        prepared.snapshot.records,
        path=files.path if files else "",
        owner=owner,
    )


async def _evict(pool: ConnectionPool, prepared: Prepared, short: list[MemoryCheck]) -> bool:
    """Stop idle workers of ours that are in the way; whether any is gone."""
    chosen: dict[str, MemoryHolder] = {}
    for check in short:
        going = fit.to_stop(check)
        if not going:
            return False
        chosen |= {holder.id: holder for holder in going}
    connection = prepared.connection
    node, term = connection.name, connection.timeouts.term
    for holder in chosen.values():
        pool.reporter.say(
            f"stopping the idle worker {holder.id} ({holder.model}, {up(holder.held)} MiB) on {node} "
            "to make room"
        )
    snapshot = await records.run(connection, BODY, [str(int(term)), *chosen], timeout=term + 60)
    stopped = False
    for outcome, worker_id, why in snapshot.results:
        if outcome in ("stopped", "unknown"):  # by us, or by somebody else
            stopped = True
            pool.registry.forget(worker_id)
        elif outcome == "kept":
            pool.reporter.say(f"worker {worker_id} on {node} is {why} now and stays")
        elif outcome == "forced":
            pool.reporter.warn(f"worker {worker_id} on {node} did not end on TERM and was killed")
    return stopped


def _shortage(prepared: Prepared, short: MemoryCheck) -> RbeeError:
    header = prepared.model.header.header if prepared.model.header else None
    settings = settings_of(prepared)

    def need_at(context: int) -> int:
        if header is None:
            return short.need.total
        need = estimate_of(prepared, header, replace(settings, context=context))
        return need.device.total if short.kind == VRAM else need.ram.total

    request = fit.ShortRequest(
        node=prepared.connection.name,
        model=prepared.model.name,
        context=settings.context,
        parallel=settings.slots,
        evict=prepared.request.evict,
        trained=header.number("context_length") if header else None,
    )
    return fit.shortage(short, request, need_at)
