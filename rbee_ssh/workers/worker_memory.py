"""What a worker takes of a node's memory: estimated from its model's header, measured once it runs."""

from __future__ import annotations

from dataclasses import replace

from rbee_ssh.engines.tuning import ALL_LAYERS, Tuning, tuning
from rbee_ssh.models import header as headers
from rbee_ssh.models.gguf import Gguf, Malformed
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.models.memory import Estimate, Need, estimate
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.registry import Registry
from rbee_ssh.ssh import script
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import fit, records
from rbee_ssh.workers.prepare import Prepared

# $1 the worker. nvidia-smi knows what each process holds; the tools of other vendors do not.
SHOW = """
rbee_init && rbee_show "$ROOT/workers/$1"
rbee_get "$ROOT/workers/$1/pid"
GROUP=${GOT%% *}
[ -z "$GROUP" ] || [ "$2" != cuda ] || nvidia-smi --query-compute-apps=pid,used_gpu_memory \\
    --format=csv,noheader,nounits 2>/dev/null | while IFS=', ' read -r PID SIZE; do
        [ "$(awk '{ sub(/^.*\\) /, ""); print $3 }' "/proc/$PID/stat" 2>/dev/null)" != "$GROUP" ] ||
            printf 'device-mib\\t%s\\n' "$SIZE"
    done
"""
BODY = compose(LIB, LOOK, then=SHOW)


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
        await headers.remember(pool.registry, connection.name, model.path, header)
    return replace(prepared, model=replace(model, header=header))


def weights_of(prepared: Prepared) -> Estimate | None:
    """The least that a worker takes of a model of which the size alone is known; None where that tells
    nothing: its user places it, or puts a part of it on a GPU, or the engine decides. Pure."""
    settings, weights = settings_of(prepared), Need(weights=prepared.model.size)
    if _unknown(prepared) or not weights.total:
        return None
    if not settings.gpu_layers:
        return Estimate(weights)
    return Estimate(Need(), weights) if settings.gpu_layers == ALL_LAYERS else None


async def keep(registry: Registry, prepared: Prepared, worker_id: str) -> None:
    """Measure a worker that has just become ready, and remember it with its model.

    Raises:
        RbeeError: the connection or its shell, or the registry's lock.
    """
    name, model = prepared.connection.name, prepared.model
    result = await script.run(prepared.connection, BODY, [worker_id, prepared.choice.backend], timeout=30.0)
    lines = result.stdout.split("\n")
    record = records.parse(lines).record(worker_id)
    own, files, peak = record.memory if record is not None else (0, 0, 0)
    if model.header is None or not own:
        return
    header = await headers.remembered(registry, name, model.path)  # with what others have measured meanwhile
    if header is None or header.mtime != model.header.mtime:
        header = model.header
    sizes = {"ram": max(own + files, peak)}
    if device := device_bytes(lines):
        sizes["device"] = device
    label = label_of(prepared, settings_of(prepared))
    await headers.remember(registry, name, model.path, headers.measured(header, label, sizes))


def device_bytes(lines: list[str]) -> int:
    """The sum of what nvidia-smi told of a worker's processes; 0 where it told nothing."""
    sizes = [line.partition("\t")[2].strip() for line in lines if line.startswith("device-mib\t")]
    return sum(int(size) for size in sizes if size.isascii() and size.isdigit() and len(size) < 9) * 2**20
