"""How much memory a model takes, out of its header and a worker's settings, in parts that are shown. Pure.

Sources, all in llama.cpp. Cache: `llama_kv_cache` makes, for each layer and slot, a row of keys and one of
values for every cell (src/llama-kv-cache.cpp); a slot has its context, rounded up to 256 cells
(src/llama-context.cpp, `n_ctx_seq`), and for a layer with a window that many of the window and one batch
(src/llama-kv-cache-iswa.cpp, `size_swa`). State of recurrent layers: f32, once for each slot
(src/llama-memory-recurrent.cpp). What is kept of prompts beside the slots: the server's cache in RAM, as
large as it may become, and its context checkpoints, each a copy of a slot's windows and states
(tools/server/server-context.cpp). Compute buffer: `graph_reserve` takes the largest batch there can be; the
bound here counts the widest tensors of a layer, the mask, the logits, and without flash attention the scores
of all heads. Measured against that: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rbee_ssh.engines.tuning import Tuning
from rbee_ssh.models.gguf import Gguf, Malformed, cache_row_bytes

PADDING = 256  # cells; GGML_PAD of n_ctx_seq and of size_swa
_FLASH_HEADS = frozenset({40, 64, 72, 80, 96, 112, 128, 256, 576})
TOKEN_BYTES = 400  # of each token of the vocabulary, in llama.cpp's own tables
F32 = 4


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a worker takes in one kind of memory, by what they are for."""

    weights: int = 0
    cache: int = 0
    state: int = 0
    compute: int = 0
    engine: int = 0
    kept: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.state + self.compute + self.engine + self.kept

    @property
    def parts(self) -> dict[str, int]:
        """The parts that are there, largest words first: for the user and for `--json`."""
        named = {
            "weights": self.weights,
            "KV cache": self.cache,
            "state": self.state,
            "compute": self.compute,
            "engine": self.engine,
            "prompt cache": self.kept,
        }
        return {name: size for name, size in named.items() if size}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a worker takes of the node's RAM and of its GPU, and what the numbers do not tell."""

    ram: Need
    device: Need = Need()
    notes: tuple[str, ...] = ()


def estimate(header: Gguf, model_bytes: int, tuning: Tuning, *, devices: int = 1) -> Estimate:
    """How much memory a worker takes; never too little, as far as the header tells.

    Args:
        model_bytes: of all files of the model.
        devices: GPUs that the model is spread over.

    Raises:
        Malformed: the header lacks what every model that can be served has.
    """
    stack = layers(header)
    context = tuning.context or header.number("context_length") or 4096
    on_gpu = min(tuning.gpu_layers, len(stack) + 1)
    tuning = replace(tuning, flash=_flash(header, tuning) if tuning.flash is None else tuning.flash)
    first = len(stack) - on_gpu + 1 if on_gpu else len(stack)  # the output counts as one layer more
    first = min(max(first, 0), len(stack))
    weights_gpu, weights_ram = _weights(header, model_bytes, first, len(stack), on_gpu)
    cached = first if tuning.cache_on_gpu else len(stack)
    compute = compute_bytes(header, stack, context, tuning)
    tables = (header.vocabulary or 0) * TOKEN_BYTES
    ram = Need(
        weights=weights_ram,
        cache=cache_bytes(stack[:cached], context, tuning, widest_value=_widest(stack)),
        state=state_bytes(stack[:cached], tuning),
        compute=(_inputs(header, context, tuning) if on_gpu else compute) + _logits(header, context, tuning),
        engine=tuning.process_bytes + tables,
        kept=tuning.kept_bytes + checkpoint_bytes(stack, context, tuning) * tuning.slots,
    )
    if not on_gpu:
        return Estimate(ram, notes=_notes(header, tuning))
    device = Need(
        weights=weights_gpu,
        cache=cache_bytes(stack[cached:], context, tuning, widest_value=_widest(stack)),
        state=state_bytes(stack[cached:], tuning),
        compute=compute * max(devices, 1),
        engine=tuning.driver_bytes * max(devices, 1),
    )
    return Estimate(ram, device, _notes(header, tuning))


def cells(context: int, window: int | None, tuning: Tuning) -> int:
    """Tokens that the cache of one layer has room for, of one slot."""
    whole = -(-context // PADDING) * PADDING
    if window is None or tuning.full_windows:
        return whole
    return -(-min(whole, window + tuning.ubatch) // PADDING) * PADDING


def cache_bytes(
    stack: tuple[Layer, ...], context: int, tuning: Tuning, *, widest_value: int | None = None
) -> int:
    """Keys and values of these layers for all slots.

    Args:
        widest_value: of all layers; without flash attention every layer's values are stored as wide.
    """
    total = 0
    for layer in stack:
        values = layer.values
        if values and tuning.flash is False and widest_value:
            values = widest_value
        row = _row(tuning.type_k, layer.keys) + _row(tuning.type_v, values)
        total += row * cells(context, layer.window, tuning) * tuning.slots
    return total


def state_bytes(stack: tuple[Layer, ...], tuning: Tuning) -> int:
    """States of recurrent layers for all slots."""
    return sum(layer.state for layer in stack) * F32 * tuning.slots


def checkpoint_bytes(stack: tuple[Layer, ...], context: int, tuning: Tuning) -> int:
    """Copies of the windows and states of one slot; a model that has neither needs none."""
    partial = tuple(
        layer for layer in stack if layer.state or (layer.window is not None and not tuning.full_windows)
    )
    one = replace(tuning, slots=1)
    windows = tuple(replace(layer, state=0) for layer in partial if layer.window is not None)
    return (cache_bytes(windows, context, one) + state_bytes(partial, one)) * tuning.checkpoints


def _flash(header: Gguf, tuning: Tuning) -> bool:
    """Whether an engine that may choose uses flash attention. On a GPU it does not for widths of heads that
    have no kernel (ggml_cuda_get_best_fattn_kernel in ggml/src/ggml-cuda/fattn.cu, the strictest)."""
    attending = heads(header)
    usual = (header.number("embedding_length") or 0) // attending if attending else 0
    head = header.number("attention.key_length")
    return not tuning.gpu_layers or (usual if head is None else head) in _FLASH_HEADS


def compute_bytes(header: Gguf, stack: tuple[Layer, ...], context: int, tuning: Tuning) -> int:
    """A bound of the buffer for intermediate results of one batch."""
    width = header.number("embedding_length") or 0
    attending = heads(header)
    head = max(header.number("attention.key_length") or 0, width // attending if attending else 0)
    experts = header.number("expert_used_count") or 0
    hidden = max(
        3 * widest(header, "feed_forward_length"),
        experts * (3 * (header.number("expert_feed_forward_length") or 0) + 2 * width),
        4 * attending * head,
        6 * (header.number("ssm.inner_size") or 0),
    )
    vocabulary = header.vocabulary or header.number("vocab_size") or 0
    seen = -(-_reach(context, tuning) // PADDING) * PADDING if any(layer.keys for layer in stack) else 0
    scores = attending * seen if tuning.flash is False else 0
    return tuning.ubatch * F32 * (4 * width + hidden + seen + max(vocabulary, scores))


def _logits(header: Gguf, context: int, tuning: Tuning) -> int:
    """What llama-cpp-python keeps of every token of the context with `logits_all`, and of a batch besides."""
    return (context + tuning.ubatch) * F32 * (header.vocabulary or 0) if tuning.all_logits else 0


def _inputs(header: Gguf, context: int, tuning: Tuning) -> int:
    """What stays in RAM of a batch that a GPU computes: its tokens' embeddings and the mask."""
    return tuning.ubatch * F32 * (2 * (header.number("embedding_length") or 0) + _reach(context, tuning))


def _reach(context: int, tuning: Tuning) -> int:
    """How many tokens one may look back at, those of other slots counted where they share their room."""
    return context * tuning.slots if tuning.unified else context


def _weights(header: Gguf, model_bytes: int, first: int, count: int, on_gpu: int) -> tuple[int, int]:
    """Bytes on the GPU and in RAM. The table of tokens stays in RAM; as the output too, it is copied."""
    if not on_gpu:
        return 0, model_bytes
    tensors = header.tensors
    if tensors is None or header.parts > 1 or not tensors.layers:
        table = (header.vocabulary or 0) * (header.number("embedding_length") or 0) * 2
        share = model_bytes if not first else model_bytes * (count - first + 1) // (count + 1)
        return share, (model_bytes - share) + min(table, model_bytes)
    table = tensors.named.get("token_embd.weight", 0)
    output = tensors.named.get("output.weight", table)
    moved = sum(tensors.layers[first:])
    rest = tensors.bytes - sum(tensors.layers) - table - tensors.named.get("output.weight", 0)
    return moved + output + rest, table + sum(tensors.layers[:first])


def _row(kind: str, elements: int) -> int:
    known = cache_row_bytes(kind, elements)
    return elements * F32 if known is None else known


def _widest(stack: tuple[Layer, ...]) -> int:
    return max((layer.values for layer in stack), default=0)


def _notes(header: Gguf, tuning: Tuning) -> tuple[str, ...]:
    notes = [f"{what} is not counted" for what in tuning.uncounted]
    keys, values = header.number("attention.key_length"), header.number("attention.value_length")
    if header.of_arch("attention.key_length_mla") is not None and keys and values:
        share = round(100 * keys / (keys + values))
        notes.append(f"builds of llama.cpp since 2026 keep {share} % of this KV cache: no values (MLA)")
    return tuple(notes)


MOST_LAYERS = 4096

# Sliding windows that llama.cpp uses, by architecture: every how many layers one is full, and whether the
# first of them is (else the last). What is not here has a full cache in every layer, whatever its header
# says: so do phi3 and llama (Mistral 7B v0.1) in llama.cpp.
_WINDOWED: dict[str, tuple[int, bool]] = {
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gemma4": (6, False),
    "gpt-oss": (2, False),
    "cohere2": (4, False),
    "olmo2": (4, False),
    "llama4": (4, False),
    "afmoe": (4, False),
    "smallthinker": (4, True),
    "mimo2": (1, False),
    "step35": (1, False),
}
_WINDOWS = {"gemma2": 4096, "llama4": 8192, "smallthinker": 4096}  # where the header need not say
_RECURRENT_ONLY = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_EVERY_FOURTH = frozenset(
    {"qwen3next", "qwen35", "qwen35moe"}
)  # layers with attention, unless the header says


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `keys` and `values`: numbers kept for each token of the context, or of the window where
    there is one; `state`: numbers kept for each slot, however long its text is."""

    keys: int
    values: int
    window: int | None = None
    state: int = 0


def layers(header: Gguf) -> tuple[Layer, ...]:
    """The layers of a model.

    Raises:
        Malformed: the header lacks what every model that can be served has.
    """
    count = header.number("block_count")
    width = header.number("embedding_length")
    if not header.architecture:
        raise Malformed("its header names no architecture")
    if header.architecture in ("clip", "mmproj") or header.text("general.type") in (
        "mmproj",
        "adapter",
        "imatrix",
    ):
        what = header.text("general.type") or header.architecture
        raise Malformed(f"it is no model to serve, but what goes beside one: {what}")
    if not count or count > MOST_LAYERS or not width:
        raise Malformed(f"its header gives no number of layers or no width for {header.architecture}")
    heads = _each(header, "attention.head_count", count)
    kv_heads = _each(header, "attention.head_count_kv", count) or heads
    head = max(heads[:1] or [0]) or max(heads, default=0)
    usual = width // head if head else 0
    key, value = (
        _either(header, "attention.key_length", usual),
        _either(header, "attention.value_length", usual),
    )
    windows = _windows(header, count)
    attends = _attending(header, kv_heads, count)
    state = _state(header, width, head)
    indexer = header.number("attention.indexer.key_length") or 0
    found = []
    for number in range(count):
        window = windows[number]
        narrow = "_swa" if window is not None else ""
        kv = kv_heads[number] if kv_heads and attends[number] else 0
        found.append(
            Layer(
                keys=kv * _either(header, f"attention.key_length{narrow}", key) + (indexer if kv else 0),
                values=kv * _either(header, f"attention.value_length{narrow}", value),
                window=window,
                state=state if not kv or all(attends) else 0,
            )
        )
    return tuple(found)


def heads(header: Gguf) -> int:
    """The largest number of attention heads of a layer; 0 where nothing attends."""
    return max(_each(header, "attention.head_count", 1), default=0)


def widest(header: Gguf, key: str) -> int:
    """The largest value of a key that can be one number or one a layer; 0 when it is missing."""
    return max(_each(header, key, 1), default=0)


def _each(header: Gguf, key: str, count: int) -> list[int]:
    """A number for each layer, whether the header gives one for all or a list; empty when it has none."""
    value = header.of_arch(key)
    if isinstance(value, list):
        told = [
            each
            for each in value
            if isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**24
        ]
        return told if len(told) == len(value) and len(told) >= count else []
    number = header.number(key)
    return [] if number is None else [number] * count


def _either(header: Gguf, key: str, otherwise: int) -> int:
    number = header.number(key)
    return otherwise if number is None else number


def _windows(header: Gguf, count: int) -> Sequence[int | None]:
    """The window of each layer, None for a full one."""
    arch = header.architecture
    width = _either(header, "attention.sliding_window", _WINDOWS.get(arch, 0))
    if arch not in _WINDOWED or not width:
        return [None] * count
    if arch == "llama4":
        width = _WINDOWS[arch]
    period, dense_first = _WINDOWED[arch]
    pattern = header.of_arch("attention.sliding_window_pattern")
    if isinstance(pattern, list) and len(pattern) >= count:
        return [width if pattern[number] else None for number in range(count)]
    if isinstance(pattern, int) and not isinstance(pattern, bool) and 0 < pattern <= MOST_LAYERS:
        period = pattern
    full = 0 if dense_first else period - 1
    return [None if number % period == full else width for number in range(count)]


def _attending(header: Gguf, kv_heads: Sequence[int], count: int) -> list[bool]:
    """Whether each layer keeps keys and values of its own."""
    arch = header.architecture
    if arch in _RECURRENT_ONLY:
        return [False] * count
    interval = header.number("full_attention_interval") or (4 if arch in _EVERY_FOURTH else 1)
    own = count - (header.number("attention.shared_kv_layers") or 0)
    return [
        bool(not kv_heads or kv_heads[number]) and (number + 1) % interval == 0 and number < own
        for number in range(count)
    ]


def _state(header: Gguf, width: int, head: int) -> int:
    """Numbers that a recurrent layer keeps for each slot (`n_embd_r` + `n_embd_s`); 0 without such layers."""
    if wkv := header.number("wkv.head_size"):
        return _either(header, "token_shift_count", 2) * width + width * wkv
    if cache := header.number("shortconv.l_cache"):
        return width * max(cache - 1, 0)
    if each := header.number("kda.head_dim"):
        kernel = _either(header, "ssm.conv_kernel", 4)
        return 3 * max(kernel - 1, 0) * head * each + head * each * each
    inner, size = header.number("ssm.inner_size") or 0, header.number("ssm.state_size") or 0
    kernel = header.number("ssm.conv_kernel") or 0
    return max(kernel - 1, 0) * (inner + 2 * (header.number("ssm.group_count") or 0) * size) + size * inner
