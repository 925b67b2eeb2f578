"""Does it fit? What a worker needs against what is free on its node, and whose stopping would make room.
Pure.

The kernel counts the pages of mapped model files as free: they can be read again. But a model whose pages are
taken away while it computes reads them from the disk for every token. So what the running workers have mapped
is not free here, except of the very file that is to be served, whose pages are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace

from rbee_ssh.engines.devices import backend_of
from rbee_ssh.models.memory import Estimate, Need
from rbee_ssh.node.choose import Choice
from rbee_ssh.node.facts import Facts
from rbee_ssh.workers.records import Record
from rbee_ssh.workers.types import LIVE_STATES

MIB = 2**20
RAM, VRAM = "RAM", "VRAM"
STARTING = ("starting", "loading")


def up(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // MIB)


@dataclass(frozen=True, slots=True)
class MemoryHolder:
    """A worker that holds memory of the kind in question, and what would be free without it. Bytes."""

    id: str
    model: str
    state: str
    held: int
    ours: bool
    there: bool  # on the very device
    created: float

    @property
    def can_go(self) -> bool:
        """Whether it may be stopped to make room: one of this control machine, there, that does nothing."""
        return self.ours and self.there and self.state == "idle"


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """What a worker will take of one kind of memory, and what there is of it. Bytes."""

    kind: str  # RAM or VRAM
    need: Need
    have: int
    free: int  # as the node says, without what its workers still need
    holders: tuple[MemoryHolder, ...]

    @property
    def short(self) -> bool:
        return self.need.total > self.have


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What a worker will take, and what is left beside it. Bytes; None where nobody can tell."""

    ram: int
    device: int
    ram_left: int | None = None
    device_left: int | None = None


def budget(estimate: Estimate, checks: Iterable[MemoryCheck]) -> MemoryBudget:
    """Of a worker on a node where nothing is short."""
    by_kind = {check.kind: check for check in checks}
    ram, device = by_kind.get(RAM), by_kind.get(VRAM)
    return MemoryBudget(
        ram=ram.need.total if ram else estimate.ram.total,
        device=estimate.device.total,
        ram_left=ram.have - ram.need.total if ram else None,
        device_left=device.have - device.need.total if device else None,
    )


def memory_checks(
    estimate: Estimate, facts: Facts, choice: Choice, records: Iterable[Record], *, path: str, owner: str
) -> list[MemoryCheck]:
    """Each kind of memory that the worker will take, and that the node can tell of.

    Args:
        records: the node's workers.
        path: of the model file on the node.
        owner: the id of this control machine.
    """
    records = [record for record in records if record.state in LIVE_STATES]
    shared = choice.backend == "metal"  # the GPU computes in the machine's own memory
    checks = []
    if (free := facts.ram_free_bytes) is not None:
        need = _together(estimate) if shared else estimate.ram
        holders = _holders(records, owner, ram_held, ("metal", "cpu") if shared else ("cpu",))
        checks.append(MemoryCheck(RAM, need, max(free - ram_spoken_for(records, path), 0), free, holders))
    if estimate.device.total and not shared and (free := device_free(facts, choice)) is not None:
        claimed = sum(device_held(record) for record in _beside(records, choice, STARTING))
        holders = _holders(_beside(records, choice, LIVE_STATES), owner, device_held, (choice.backend,))
        checks.append(MemoryCheck(VRAM, estimate.device, max(free - claimed, 0), free, holders))
    return checks


def ram_spoken_for(records: Iterable[Record], path: str) -> int:
    """What the kernel calls free and is not: mapped model files, and what starting workers still need."""
    mapped: dict[str, int] = {}
    claimed = 0
    for record in records:
        own, files, _ = record.memory
        model = record.spec_text("model_path")
        if record.state in STARTING:
            shared = record.spec_number("model_bytes") if model == path else 0
            claimed += max(record.spec_number("need_ram") - own - shared, 0)
        elif model != path:
            mapped[model] = max(mapped.get(model, 0), files)
    return claimed + sum(mapped.values())


def device_free(facts: Facts, choice: Choice) -> int | None:
    """Free bytes of the GPUs that the choice means; None when nobody tells them."""
    each: list[int | None] = [
        free for name, _, free in choice.engine.memory if backend_of(name) == choice.backend
    ]
    each = each or [gpu.memory_free_bytes for gpu in facts.gpus if gpu.backend == choice.backend]
    if choice.device is not None:
        each = [each[int(index)] for index in choice.device.split(",") if int(index) < len(each)]
    free = [size for size in each if size is not None]
    return sum(free) if free and len(free) == len(each) else None


def device_count(facts: Facts, choice: Choice) -> int:
    """On how many GPUs the choice computes."""
    if choice.device is not None:
        return choice.device.count(",") + 1
    named = [name for name in choice.engine.devices if backend_of(name) == choice.backend]
    return max(len(named) or len([gpu for gpu in facts.gpus if gpu.backend == choice.backend]), 1)


def to_stop(short: MemoryCheck) -> list[MemoryHolder]:
    """The idle workers of ours that make room, oldest first, no more than it takes; none if all do not."""
    chosen: list[MemoryHolder] = []
    have = short.have
    for holder in sorted((h for h in short.holders if h.can_go), key=lambda h: h.created):
        if have >= short.need.total:
            break
        chosen.append(holder)
        have += holder.held
    return chosen if have >= short.need.total else []


def corrected(estimate: Estimate, measured: Mapping[str, int]) -> Estimate:
    """The estimate with what a worker of this very kind was seen to take.

    What it had beyond weights and cache after its load takes the place of our guess at the engine itself. The
    compute buffer stays: most of it is touched with the first long prompt only.
    """
    return Estimate(
        _corrected(estimate.ram, measured.get("ram")),
        _corrected(estimate.device, measured.get("device")) if estimate.device.total else estimate.device,
        estimate.notes,
    )


def _corrected(need: Need, measured: int | None) -> Need:
    if measured is None:
        return need
    return replace(need, engine=max(measured - need.weights - need.cache - need.state, 0))


def ram_held(record: Record) -> int:
    """What would be free without this worker, and without what it still needs."""
    own, files, _ = record.memory
    return max(own + files, record.spec_number("need_ram") if record.state in STARTING else 0)


def device_held(record: Record) -> int:
    """What it was expected to take of its GPUs: no tool tells that of one process on every kind of GPU."""
    return record.spec_number("need_device")


def _together(estimate: Estimate) -> Need:
    ram, device = estimate.ram, estimate.device
    return Need(
        weights=max(ram.weights, device.weights),
        cache=ram.cache + device.cache,
        state=ram.state + device.state,
        compute=ram.compute + device.compute,
        engine=ram.engine + device.engine,
        kept=ram.kept + device.kept,
    )


def _beside(records: Iterable[Record], choice: Choice, states: Container[str]) -> list[Record]:
    """Workers in these states on the devices that the choice means."""
    mine = set((choice.device or "").split(","))

    def meets(device: str) -> bool:
        return not choice.device or not device or bool(mine & set(device.split(",")))

    return [
        record
        for record in records
        if record.state in states
        and record.spec_text("backend") == choice.backend
        and meets(record.spec_text("device"))
    ]


def _holders(
    records: Iterable[Record], owner: str, held: Callable[[Record], int], backends: Container[str]
) -> tuple[MemoryHolder, ...]:
    """Those that hold something, most first. Only those on these backends would make room by going."""
    holders = [
        MemoryHolder(
            id=record.id,
            model=record.spec_text("model"),
            state=record.state,
            held=held(record),
            ours=record.spec_text("owner") == owner,
            there=record.spec_text("backend") in backends,
            created=record.created or 0.0,
        )
        for record in records
        if held(record)
    ]
    return tuple(sorted(holders, key=lambda holder: -holder.held))
