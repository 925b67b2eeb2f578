"""What an engine's settings mean for memory: context, slots, cache types, what goes to a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
    """The settings that decide how much memory a worker takes.

    `context`: tokens of each slot, 0 for the model's own; `slots`: that the engine really makes; `flash`:
    flash attention, None where the engine uses it if the device can; `unified`: a slot may take the room of
    all; `kept_bytes`: for prompts that slots have left; `checkpoints`: copies kept of a slot's state;
    `all_logits`: the engine keeps those of every token; `gpu_layers`: how many of the last layers go to a
    GPU; `placed`: the user's own arguments say where the model goes; `uncounted`: what takes memory too and
    is not known here.
    """

    context: int
    slots: int
    type_k: str = "f16"
    type_v: str = "f16"
    ubatch: int = UBATCH
    flash: bool | None = None
    unified: bool = False
    kept_bytes: int = 0
    checkpoints: int = 0
    full_windows: bool = False
    all_logits: bool = False
    gpu_layers: int = 0
    cache_on_gpu: bool = True
    process_bytes: int = 0
    driver_bytes: int = 0
    placed: bool = False
    uncounted: tuple[str, ...] = ()


def tuning(engine: str, *, context: int, parallel: int, backend: str, args: tuple[str, ...] = ()) -> Tuning:
    """The settings of a worker, the preset's own arguments counted.

    llama-server and xllamacpp are given context × slots and divide it; llama-cpp-python has one slot, no
    flash attention unless asked, and full caches for layers with a window (`llama_context_default_params` in
    llama.cpp).
    """
    single = engine == "llama-cpp-python"
    found = Tuning(
        context=context,
        slots=1 if single else max(parallel, 1),
        flash=False if single else None,
        kept_bytes=0 if single else CACHE_RAM_MIB * MIB,
        checkpoints=0 if single else CHECKPOINTS,
        full_windows=single,
        gpu_layers=0 if backend == "cpu" else ALL_LAYERS,
        process_bytes=_PROCESS.get(engine, max(_PROCESS.values())),
        driver_bytes=_DRIVER.get(backend, 0),
    )
    try:
        given = pairs(args)
    except UsageInvalid:  # llama-server takes words that the others' settings cannot be
        given = ()
    # The last one counts, also of two names of one option: it comes last here.
    options: dict[str, str | None] = {}
    for name, value in given:
        options.pop(name, None)
        options[name] = value
    return _with(found, options)


def _with(found: Tuning, options: dict[str, str | None]) -> Tuning:
    def number(*names: str) -> int | None:
        value = text(*names)
        return (
            int(value)
            if value is not None and value.isascii() and value.isdigit() and len(value) < 10
            else None
        )

    def text(*names: str) -> str | None:
        return next((value for name, value in reversed(options.items()) if name in names and value), None)

    def on(value: str | None) -> bool:
        return value is None or value.lower() in ("1", "on", "true", "yes", "enabled")

    def either(*names: str) -> bool | None:
        value = next((value or "on" for name, value in reversed(options.items()) if name in names), "auto")
        return None if value.lower() == "auto" else on(value)

    slots = number("parallel", "np", "n_parallel") or found.slots
    slots = 1 if found.full_windows else slots
    # What the engine is given is for all slots, however many the arguments make of it.
    total = number("ctx_size", "c", "n_ctx") or found.context * found.slots
    layers = number("n_gpu_layers", "gpu_layers", "ngl")
    flash = either("flash_attn", "fa")
    kept, unlimited = _kept(found, options, number)
    copies = number("ctx_checkpoints", "ctxcp", "swa_checkpoints", "n_ctx_checkpoints")
    return replace(
        found,
        slots=slots,
        context=-(-total // slots),
        type_k=text("cache_type_k", "ctk", "type_k") or found.type_k,
        type_v=text("cache_type_v", "ctv", "type_v") or found.type_v,
        ubatch=number("ubatch_size", "ub", "n_ubatch") or found.ubatch,
        flash=False if "no_flash_attn" in options else found.flash if flash is None else flash,
        unified=bool(either("kv_unified", "kvu")),
        kept_bytes=kept,
        checkpoints=copies if copies is not None and not found.full_windows else found.checkpoints,
        full_windows=found.full_windows or "swa_full" in options,
        all_logits=found.full_windows and (on(options.get("logits_all", "off")) or "draft_model" in options),
        gpu_layers=found.gpu_layers if layers is None or not found.gpu_layers else layers,
        cache_on_gpu=not {"no_kv_offload", "nkvo"} & options.keys(),
        placed=bool(_PLACING & options.keys()),
        uncounted=(
            *dict.fromkeys(_UNCOUNTED[name] for name in options if name in _UNCOUNTED),
            *(["a cache of prompts without a limit"] if unlimited else []),
        ),
    )


def _kept(
    found: Tuning, options: dict[str, str | None], number: Callable[..., int | None]
) -> tuple[int, bool]:
    """Bytes for prompts that slots have left, and whether there is no limit to them."""
    if found.full_windows:
        cached = "cache" in options and (options["cache"] or "on").lower() in ("1", "on", "true", "yes")
        size = number("cache_size")
        if not cached or options.get("cache_type") == "disk":
            return 0, False
        return RAM_CACHE if size is None else size, False
    names = ("cache_ram", "cram", "cache_ram_mib")
    mib = number(*names)
    return found.kept_bytes if mib is None else mib * MIB, any(
        (options.get(name) or "").startswith("-") for name in names
    )
