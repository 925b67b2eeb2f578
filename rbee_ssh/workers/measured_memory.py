"""What a worker takes once its model is loaded: kept with the model, for the next estimate."""

from __future__ import annotations

from rbee_ssh.models import header as headers
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.registry import Registry
from rbee_ssh.ssh import script
from rbee_ssh.workers import records
from rbee_ssh.workers.eviction import label_of, settings_of
from rbee_ssh.workers.prepare import ModelOnNode, Prepared

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


async def keep(registry: Registry, prepared: Prepared, model: ModelOnNode, worker_id: str) -> None:
    """Measure a worker that has just become ready, and remember it with its model.

    Args:
        model: the file, which may have been sent after `prepared` was.

    Raises:
        RbeeError: the connection or its shell, or the registry's lock.
    """
    name = prepared.connection.name
    result = await script.run(prepared.connection, BODY, [worker_id, prepared.choice.backend], timeout=30.0)
    lines = result.stdout.split("\n")
    record = records.parse(lines).record(worker_id)
    if record is None:
        return
    known = await headers.remembered(registry, name, prepared.path)
    if known is None or known.mtime != model.mtime:
        if prepared.source is None:
            return
        known = CachedHeader(model.size, model.mtime, await headers.read_local(prepared.source.stamp[0]))
    own, files, peak = record.memory
    if not own:
        return
    sizes = {"ram": max(own + files, peak)}
    if device := device_bytes(lines):
        sizes["device"] = device
    label = label_of(prepared, settings_of(prepared))
    await headers.remember(registry, name, prepared.path, headers.measured(known, label, sizes))


def device_bytes(lines: list[str]) -> int:
    """The sum of what nvidia-smi told of a worker's processes; 0 where it told nothing."""
    told = [line.partition("\t")[2].strip() for line in lines if line.startswith("device-mib\t")]
    return sum(int(size) for size in told if size.isascii() and size.isdigit() and len(size) < 9) * 2**20
