"""What each layer of a model keeps for the tokens it has seen: out of a GGUF header, as llama.cpp reads it.

Sources, all in llama.cpp: `llama_hparams::n_embd_k_gqa`, `n_embd_v_gqa`, `n_embd_r`, `n_embd_s`, `has_kv` and
`set_swa_pattern` (src/llama-hparams.cpp), and each architecture's `load_arch_hparams` for its window. Where
the header or the architecture is not understood, the answer is an upper bound: a full cache in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.models.gguf import Gguf, Malformed

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
