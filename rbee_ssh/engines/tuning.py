"""What an engine's settings mean for memory: context, slots, cache types, what goes to a GPU."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from rbee_ssh.engines import CACHE_RAM_MIB, CHECKPOINTS
from rbee_ssh.engines.arguments import pairs
from rbee_ssh.errors import UsageInvalid

MIB = 2**20
UBATCH = 512  # llama.cpp's default: tokens computed in one go
ALL_LAYERS = 999
RAM_CACHE = 2 * 2**30  # bytes; llama-cpp-python's `cache_size`, where `cache` is on

# The process without its model, as it was after a first prompt (docs/benchmarks.md), with a fifth to spare:
# code, threads, and what Python loads for llama-cpp-python's server.
_PROCESS = {"llama-server": 128 * MIB, "xllamacpp": 96 * MIB, "llama-cpp-python": 176 * MIB}
# What a process holds on a GPU before it has put anything there: contexts and kernels of the driver.
_DRIVER = {"cuda": 512 * MIB, "rocm": 512 * MIB, "vulkan": 64 * MIB, "metal": 64 * MIB}

# Options that take memory which cannot be told from the model's own header.
_UNCOUNTED = {
    "model_draft": "a draft model",
    "md": "a draft model",
    "spec_draft_model": "a draft model",
    "mmproj": "a projector for images or sound",
    "mm": "a projector for images or sound",
    "clip_model_path": "a projector for images or sound",
    "lora": "an adapter",
    "lora_path": "an adapter",
}
# Options by which the user places the model in person: where what goes is then not ours to say.
_PLACING = frozenset(
    {"device", "dev", "rpc", "rpc_servers", "override_tensor", "ot", "tensor_split", "ts", "split_mode", "sm"}
    | {"cpu_moe", "cmoe", "n_cpu_moe", "ncmoe"}
)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The settings that decide how much memory a worker takes."""

    context: int  # tokens of each slot, 0 for the model's own
    slots: int  # that the engine really makes
    type_k: str
    type_v: str
    ubatch: int
    flash: bool | None  # flash attention; None: the engine uses it if the device can
    unified: bool  # a slot may take the room of all
    kept_bytes: int  # for prompts that slots have left
    checkpoints: int  # copies kept of a slot's state
    full_windows: bool  # full caches, too, for layers with a window
    all_logits: bool  # the engine keeps those of every token
    gpu_layers: int  # how many of the last layers go to a GPU
    cache_on_gpu: bool
    process_bytes: int
    driver_bytes: int
    placed: bool  # the user's own arguments say where the model goes
    uncounted: tuple[str, ...]  # what takes memory, too, and is not known here


def tuning(engine: str, *, context: int, parallel: int, backend: str, args: tuple[str, ...] = ()) -> Tuning:
    """The settings of a worker, the preset's own arguments counted.

    llama-server and xllamacpp are given context × slots and divide it; llama-cpp-python has one slot, no
    flash attention unless asked, and full caches for layers with a window (`llama_context_default_params` in
    llama.cpp).
    """
    single = engine == "llama-cpp-python"
    options = _Options(args)
    asked_slots = 1 if single else max(parallel, 1)
    slots = 1 if single else options.number("parallel", "np", "n_parallel") or asked_slots
    # What the engine is given is for all slots, however many the arguments make of it.
    total = options.number("ctx_size", "c", "n_ctx") or context * asked_slots
    flash = False if "no_flash_attn" in options else options.switch("flash_attn", "fa")
    copies = options.number("ctx_checkpoints", "ctxcp", "swa_checkpoints", "n_ctx_checkpoints")
    layers = options.number("n_gpu_layers", "gpu_layers", "ngl")
    kept_bytes, unlimited = _kept(options, single)
    return Tuning(
        context=-(-total // slots),
        slots=slots,
        type_k=options.text("cache_type_k", "ctk", "type_k") or "f16",
        type_v=options.text("cache_type_v", "ctv", "type_v") or "f16",
        ubatch=options.number("ubatch_size", "ub", "n_ubatch") or UBATCH,
        flash=False if single and flash is None else flash,
        unified=bool(options.switch("kv_unified", "kvu")),
        kept_bytes=kept_bytes,
        checkpoints=0 if single else CHECKPOINTS if copies is None else copies,
        full_windows=single or "swa_full" in options,
        all_logits=single and (bool(options.switch("logits_all")) or "draft_model" in options),
        gpu_layers=0 if backend == "cpu" else ALL_LAYERS if layers is None else layers,
        cache_on_gpu=not {"no_kv_offload", "nkvo"} & options.keys(),
        process_bytes=_PROCESS.get(engine, max(_PROCESS.values())),
        driver_bytes=_DRIVER.get(backend, 0),
        placed=bool(_PLACING & options.keys()),
        uncounted=(
            *dict.fromkeys(_UNCOUNTED[name] for name in options if name in _UNCOUNTED),
            *(["a cache of prompts without a limit"] if unlimited else []),
        ),
    )


class _Options(dict[str, str | None]):
    """A preset's arguments by name. The last one counts, also of two names of one option."""

    def __init__(self, args: tuple[str, ...]) -> None:
        with contextlib.suppress(
            UsageInvalid
        ):  # llama-server takes words that the others' settings cannot be
            for name, value in pairs(args):
                self.pop(name, None)
                self[name] = value

    def text(self, *names: str) -> str | None:
        return next((value for name, value in reversed(self.items()) if name in names and value), None)

    def number(self, *names: str) -> int | None:
        value = self.text(*names)
        return int(value) if value and re.fullmatch("[0-9]{1,9}", value) else None

    def switch(self, *names: str) -> bool | None:
        """A bare name is on; None: not given, or "auto"."""
        value = next(
            (value or "on" for name, value in reversed(self.items()) if name in names), "auto"
        ).lower()
        return None if value == "auto" else value in ("1", "on", "true", "yes", "enabled")


def _kept(options: _Options, single: bool) -> tuple[int, bool]:
    """Bytes for prompts that slots have left, and whether there is no limit to them."""
    if single:
        if not options.switch("cache") or options.get("cache_type") == "disk":
            return 0, False
        size = options.number("cache_size")
        return RAM_CACHE if size is None else size, False
    names = ("cache_ram", "cram", "cache_ram_mib")
    mib = options.number(*names)
    unlimited = any((options.get(name) or "").startswith("-") for name in names)
    return (CACHE_RAM_MIB if mib is None else mib) * MIB, unlimited
