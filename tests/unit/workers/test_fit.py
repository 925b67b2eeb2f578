"""What a worker needs against what a node has, and whose stopping would make room."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import RamShort, VramShort
from rbee_ssh.models.memory import Estimate, Need
from rbee_ssh.node.choose import Choice
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.workers.fit import (
    RAM,
    VRAM,
    MemoryBudget,
    MemoryCheck,
    MemoryHolder,
    budget,
    corrected,
    device_free,
    memory_checks,
    ram_spoken_for,
    to_stop,
)
from rbee_ssh.workers.records import Record
from rbee_ssh.workers.shortage import fitting_context, in_words

MIB = 2**20
KIB = 1024
ENGINE = EngineFound("llama-server", "/bin/llama-server", "1", backends=("cpu",))
CPU = Choice(ENGINE, "cpu")


def worker(
    worker_id: str = "a" * 12,
    state: str = "idle",
    memory: str = "",
    model: str = "/m/other.gguf",
    **spec: Any,
) -> Record:
    told = {"owner": "me", "model": "other", "model_path": model, "backend": "cpu", "created": 100.0, **spec}
    return Record(worker_id, {"state": state, "spec.json": json.dumps(told), "memory": memory})


def on_cpu(free: int, *records: Record, need: int = 1000 * MIB) -> MemoryCheck:
    (found,) = memory_checks(
        Estimate(Need(weights=need)),
        Facts(ram_free_bytes=free),
        CPU,
        records,
        path="/m/tiny.gguf",
        owner="me",
    )
    return found


def test_what_is_free_is_what_there_is() -> None:
    assert not on_cpu(1000 * MIB).short
    assert on_cpu(1000 * MIB - 1).short


def test_a_node_that_does_not_tell_has_no_balance() -> None:
    assert memory_checks(Estimate(Need(1)), Facts(), CPU, [], path="", owner="") == []


def test_mapped_files_of_other_models_are_not_free() -> None:
    other = worker(memory=f"{50 * KIB} {300 * KIB} {350 * KIB}")
    assert on_cpu(1200 * MIB, other).have == 900 * MIB
    # Two that have mapped the same file share its pages; those of our own file are to be shared as well.
    assert ram_spoken_for([other, other], "/m/tiny.gguf") == 300 * MIB
    assert ram_spoken_for([other], "/m/other.gguf") == 0


def test_what_a_starting_worker_still_needs_is_not_free() -> None:
    loading = worker(state="loading", memory=f"{100 * KIB} {50 * KIB} 0", need_ram=700 * MIB)
    assert on_cpu(1500 * MIB, loading).have == 900 * MIB
    assert on_cpu(1500 * MIB, worker(state="starting", need_ram=700 * MIB)).have == 800 * MIB
    # It is in the way as much as one that has loaded.
    assert [one.held for one in on_cpu(1500 * MIB, loading).holders] == [700 * MIB]
    # It reads the very file that we want: its pages will be there once.
    same = worker(state="starting", model="/m/tiny.gguf", need_ram=700 * MIB, model_bytes=500 * MIB)
    assert on_cpu(1500 * MIB, same).have == 1300 * MIB


def test_one_that_has_ended_holds_nothing() -> None:
    assert on_cpu(MIB, worker(state="dead", memory=f"{KIB} {KIB} {KIB}")).holders == ()


@pytest.mark.parametrize("memory", ["", "x", "1 -2 3", "9" * 30, "1\n2", "None 1 2"])
def test_nonsense_from_a_node_counts_nothing(memory: str) -> None:
    assert all(0 <= size < 2**60 for size in worker(memory=memory).memory)


def holder(worker_id: str, held: int, created: float = 0.0, **also: Any) -> MemoryHolder:
    told: dict[str, Any] = {"state": "idle", "ours": True, "there": True, **also}
    return MemoryHolder(worker_id, "m", held=held * MIB, created=created, **told)


def short(need: int, have: int, *holders: MemoryHolder, kind: str = RAM) -> MemoryCheck:
    return MemoryCheck(kind, Need(weights=need * MIB), have * MIB, have * MIB, holders)


def test_the_oldest_go_first_and_no_more_than_it_takes() -> None:
    holders = [holder("young", 300, 9.0), holder("old", 300, 1.0), holder("middle", 300, 5.0)]
    assert [one.id for one in to_stop(short(1000, 500, *holders))] == ["old", "middle"]


@pytest.mark.parametrize("also", [{"state": "busy"}, {"state": "loading"}, {"ours": False}, {"there": False}])
def test_nobody_else_goes(also: dict[str, Any]) -> None:
    assert to_stop(short(1000, 500, holder("it", 900, **also))) == []


def test_nobody_goes_in_vain() -> None:
    assert to_stop(short(1000, 500, holder("it", 400))) == []


LISTED = EngineFound(
    "llama-server",
    "/x",
    "1",
    backends=("cpu", "vulkan"),
    devices=("Vulkan0", "Vulkan1"),
    memory=(("Vulkan0", 2048 * MIB, 2000 * MIB), ("Vulkan1", 4096 * MIB, 3000 * MIB)),
)
GPUS = tuple(Gpu(n, "G", "nvidia", "cuda", 24 * MIB, free) for n, free in enumerate((10 * MIB, 20 * MIB)))


def test_free_memory_of_the_gpus_that_are_meant() -> None:
    assert device_free(Facts(), Choice(LISTED, "vulkan")) == 5000 * MIB
    assert device_free(Facts(), Choice(LISTED, "vulkan", "1")) == 3000 * MIB
    assert device_free(Facts(gpus=GPUS), Choice(ENGINE, "cuda")) == 30 * MIB
    assert device_free(Facts(gpus=GPUS), Choice(ENGINE, "cuda", "1")) == 20 * MIB
    assert device_free(Facts(), Choice(ENGINE, "cuda")) is None
    untold = (GPUS[0], Gpu(1, "G", "nvidia", "cuda", None, None))
    assert device_free(Facts(gpus=untold), Choice(ENGINE, "cuda")) is None


def test_workers_on_the_same_gpu_only() -> None:
    choice = Choice(LISTED, "vulkan", "1")
    need = Estimate(Need(weights=1), Need(weights=2900 * MIB))
    records = [
        worker("1" * 12, "loading", backend="vulkan", device="1", need_device=500 * MIB),
        worker("2" * 12, "idle", backend="vulkan", device="0", need_device=700 * MIB),
        worker("3" * 12, "idle", backend="vulkan", need_device=900 * MIB),
        worker("4" * 12, "idle", backend="cpu", memory=f"{KIB} {KIB} 0"),
    ]
    ram, vram = memory_checks(need, Facts(ram_free_bytes=10 * MIB), choice, records, path="", owner="me")
    assert ram.kind == RAM
    assert not ram.short
    assert (vram.kind, vram.have, vram.short) == (VRAM, 2500 * MIB, True)
    assert [one.id[0] for one in vram.holders] == ["3", "1"]
    assert [one.id[0] for one in to_stop(vram)] == ["3"]


def test_what_is_left_beside_a_worker() -> None:
    need = Estimate(Need(weights=100), Need(weights=2000 * MIB))
    told = Facts(ram_free_bytes=110)
    assert budget(
        need, memory_checks(need, told, Choice(LISTED, "vulkan"), [], path="", owner="")
    ) == MemoryBudget(100, 2000 * MIB, ram_left=10, device_left=3000 * MIB)
    # What the node does not tell is no limit; what Metal takes of a GPU is the machine's.
    assert budget(need, []) == MemoryBudget(100, 2000 * MIB)
    metal = memory_checks(need, Facts(ram_free_bytes=2**40), Choice(ENGINE, "metal"), [], path="", owner="")
    assert budget(need, metal).ram == 2000 * MIB


def test_metal_computes_in_the_machines_own_memory() -> None:
    need = Estimate(Need(weights=10 * MIB, engine=5 * MIB), Need(weights=900 * MIB, cache=90 * MIB))
    (found,) = memory_checks(
        need, Facts(ram_free_bytes=1000 * MIB), Choice(ENGINE, "metal"), [], path="", owner="me"
    )
    assert found.need.total == (900 + 90 + 5) * MIB


def test_a_measurement_takes_the_place_of_the_guess_at_the_engine() -> None:
    guess = Estimate(Need(weights=100, cache=50, compute=30, engine=500))
    assert corrected(guess, {"ram": 190}).ram == Need(weights=100, cache=50, compute=30, engine=40)
    assert corrected(guess, {"ram": 2000}).ram.total > 2000
    assert corrected(guess, {"ram": 10}).ram.engine == 0
    assert corrected(guess, {}) == guess


WANTED: dict[str, Any] = {"node": "gpu1", "model": "tiny", "context": 8192, "parallel": 1, "evict": True}


def test_the_error_names_need_have_parts_workers_and_the_way_out() -> None:
    balance = MemoryCheck(
        RAM,
        Need(weights=600 * MIB, cache=350 * MIB, engine=50 * MIB),
        500 * MIB,
        600 * MIB,
        (holder("abc", 700, state="busy"), holder("def", 20, ours=False)),
    )
    found = in_words(balance, lambda context: (650 + 350 * context // 8192) * MIB, **WANTED)
    assert isinstance(found, RamShort)
    assert found.message == (
        "tiny with a context of 8192 tokens needs 1000 MiB of RAM of node 'gpu1' (weights 600, KV cache 350, "
        "engine 50), and 500 MiB are free; of the rest, workers hold: abc (m, 700 MiB, busy), "
        "def (m, 20 MiB, idle, another control machine's)"
    )
    assert found.hint == "rbee workers stop abc\ntake a smaller quant of the model, or another node"
    assert (found.details["need_mib"], found.details["have_mib"]) == (1000, 500)
    assert found.details["parts"] == {"weights": 600 * MIB, "KV cache": 350 * MIB, "engine": 50 * MIB}
    assert [one["id"] for one in found.details["workers"]] == ["abc", "def"]


def test_the_hint_names_a_context_that_fits() -> None:
    found = in_words(short(1000, 500, kind=VRAM), lambda context: (400 + context // 16) * MIB, **WANTED)
    assert isinstance(found, VramShort)
    assert found.hint == "--context 1536 fits"
    assert found.details["fitting_context"] == 1536


def test_no_context_is_named_that_the_model_was_not_made_for() -> None:
    wanted = WANTED | {"context": 10**6, "trained": 8192}
    assert in_words(short(1000, 500), lambda _: 0, **wanted).details["fitting_context"] == 8192


def test_the_hint_says_what_no_evict_forbids() -> None:
    crowded = short(1000, 500, holder("abc", 300), holder("def", 300))
    found = in_words(crowded, lambda _: 10**12, **WANTED | {"evict": False})
    assert found.hint is not None
    assert "rbee workers stop abc def" in found.hint
    assert "without --no-evict" in found.hint


@pytest.mark.parametrize(("have", "largest"), [(0, None), (255, None), (256, 256), (700, 512), (10**9, 7936)])
def test_the_largest_context_that_fits(have: int, largest: int | None) -> None:
    assert fitting_context(lambda context: context, have, 8192) == largest
