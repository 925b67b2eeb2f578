"""Memory out of headers of public models: the cache of each worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.models.gguf_files import published, write

from rbee_ssh.engines.tuning import Tuning, tuning
from rbee_ssh.models.gguf import Malformed, parse
from rbee_ssh.models.memory import cache_bytes, estimate, layers, state_bytes

MIB = 2**20
KIB = 2**10


def server(context: int, parallel: int = 1, **more: object) -> Tuning:
    args = tuple(f"{name}={value}" for name, value in more.items())
    return tuning("llama-server", context=context, parallel=parallel, backend="cpu", args=args)


def cache(name: str, settings: Tuning) -> int:
    header, _ = published(name)
    return cache_bytes(layers(header), settings.context, settings)


def test_llama_3_8b() -> None:
    # 32 layers · 8 KV heads · 128 numbers · (keys + values) · 2 bytes = 128 KiB a token.
    assert cache("llama-3-8b", server(8192)) == 32 * 8 * 128 * 2 * 2 * 8192 == 1024 * MIB


def test_llama_3_70b() -> None:
    # 80 layers · 8 KV heads · 128 · 2 · 2 bytes = 320 KiB a token; eight query heads share a KV head.
    assert cache("llama-3-70b", server(8192)) == 320 * KIB * 8192 == 2560 * MIB


def test_qwen3_30b_a3b() -> None:
    # 48 layers · 4 KV heads · 128 (not 2048 / 32) · 2 · 2 bytes = 96 KiB a token. Experts have no cache.
    assert cache("qwen3-30b-a3b", server(32768)) == 96 * KIB * 32768 == 3072 * MIB


def test_gemma_3_27b_whose_layers_look_back_1024_tokens_but_each_sixth() -> None:
    # A row is 16 KV heads · 128 · 2 · 2 bytes = 8 KiB. Full layers: 5, 11, … 59, ten of 62, with 32,768
    # cells. The other 52: 1024 of the window + 512 of a batch = 1536 cells.
    assert cache("gemma-3-27b", server(32768)) == 10 * 8 * KIB * 32768 + 52 * 8 * KIB * 1536 == 3184 * MIB
    # Four slots of a quarter each: the windows do not get smaller.
    assert cache("gemma-3-27b", server(8192, 4)) == 4 * (10 * 8 * KIB * 8192 + 52 * 8 * KIB * 1536)
    # As llama-cpp-python has it, and --swa-full: every layer full.
    assert cache("gemma-3-27b", server(32768, swa_full="true")) == 62 * 8 * KIB * 32768


def test_gpt_oss_20b_whose_every_other_layer_looks_back_128_tokens() -> None:
    # A row is 8 KV heads · 64 · 2 · 2 bytes = 2 KiB. 12 full layers; 12 with 128 + 512 = 640 cells, made 768.
    assert cache("gpt-oss-20b", server(8192)) == 12 * 2 * KIB * 8192 + 12 * 2 * KIB * 768 == 210 * MIB
    # A context shorter than the window and a batch is all there is.
    assert cache("gpt-oss-20b", server(512)) == 24 * 2 * KIB * 512


def test_mistral_7b() -> None:
    # 32 layers · 8 KV heads · 128 · 2 · 2 bytes = 128 KiB a token.
    assert cache("mistral-7b-v0.3", server(32768)) == 128 * KIB * 32768 == 4096 * MIB


def test_phi_3_mini_whose_window_llama_cpp_does_not_use() -> None:
    # 32 layers · 32 KV heads · 96 · 2 · 2 bytes = 384 KiB a token.
    assert cache("phi-3-mini-4k", server(4096)) == 384 * KIB * 4096 == 1536 * MIB


def test_deepseek_v2_lite_keeps_one_compressed_head() -> None:
    # 27 layers · (512 + 64 keys + 512 values) · 2 bytes; newer builds leave the values out, and a note says
    # so.
    assert cache("deepseek-v2-lite", server(4096)) == 27 * (576 + 512) * 2 * 4096
    header, size = published("deepseek-v2-lite")
    assert any("53 % of this KV cache" in note for note in estimate(header, size, server(4096)).notes)


def test_mamba_keeps_a_state_and_no_cache() -> None:
    # 24 layers · (3 · 1536 of the convolution + 16 · 1536 of the state) · 4 bytes, once for each slot.
    header, _ = published("mamba-130m")
    settings = server(65536, 4)
    assert cache_bytes(layers(header), settings.context, settings) == 0
    assert state_bytes(layers(header), settings) == 4 * 24 * (3 * 1536 + 16 * 1536) * 4


def test_the_context_of_a_slot_is_rounded_up() -> None:
    assert cache("llama-3-8b", server(1000, 3)) == 3 * 128 * KIB * 1024


def test_types_of_the_cache() -> None:
    # q8_0: 34 bytes for 32 numbers; q4_0: 18.
    assert (
        cache("llama-3-8b", server(8192, cache_type_k="q8_0", cache_type_v="q8_0")) == 1024 * MIB * 34 // 64
    )
    assert cache("llama-3-8b", server(8192, cache_type_k="q8_0", ctv="q4_0")) == 512 * MIB * (34 + 18) // 64
    # One that is not known here counts as the largest.
    assert cache("llama-3-8b", server(8192, ctk="turbo9")) == 3 * 512 * MIB


def test_llama_cpp_python_has_one_slot() -> None:
    settings = tuning("llama-cpp-python", context=4096, parallel=4, backend="cpu")
    assert cache("llama-3-8b", settings) == 128 * KIB * 4096


def test_llama_cpp_python_keeps_the_logits_of_every_token_if_it_is_told_to() -> None:
    header, size = published("llama-3-8b")
    few, all_ = (
        estimate(header, size, tuning("llama-cpp-python", context=4096, parallel=1, backend="cpu", args=args))
        for args in ((), ("logits_all=true",))
    )
    assert all_.ram.compute - few.ram.compute == (4096 + 512) * 128256 * 4


def test_heads_and_windows_layer_by_layer() -> None:
    keys = {
        "general.architecture": "gemma4",
        "gemma4.block_count": 4,
        "gemma4.embedding_length": 1024,
        "gemma4.attention.head_count": 8,
        "gemma4.attention.head_count_kv": [4, 4, 4, 1],
        "gemma4.attention.key_length": 512,
        "gemma4.attention.value_length": 512,
        "gemma4.attention.key_length_swa": 256,
        "gemma4.attention.value_length_swa": 256,
        "gemma4.attention.sliding_window": 512,
        "gemma4.attention.sliding_window_pattern": [True, True, True, False],
        "gemma4.attention.shared_kv_layers": 0,
    }
    found = layers(parse(write(keys), 10**6))
    assert [(layer.keys, layer.window) for layer in found] == [(1024, 512)] * 3 + [(512, None)]
    shared = layers(parse(write(keys | {"gemma4.attention.shared_kv_layers": 2}), 10**6))
    assert [layer.keys for layer in shared] == [1024, 1024, 0, 0]


def test_attention_in_each_fourth_layer_and_a_state_in_the_others() -> None:
    keys = {
        "general.architecture": "qwen3next",
        "qwen3next.block_count": 8,
        "qwen3next.embedding_length": 2048,
        "qwen3next.attention.head_count": 16,
        "qwen3next.attention.head_count_kv": 2,
        "qwen3next.attention.key_length": 256,
        "qwen3next.attention.value_length": 256,
        "qwen3next.ssm.conv_kernel": 4,
        "qwen3next.ssm.inner_size": 4096,
        "qwen3next.ssm.state_size": 128,
        "qwen3next.ssm.group_count": 16,
    }
    found = layers(parse(write(keys), 10**6))
    state = 3 * (4096 + 2 * 16 * 128) + 128 * 4096
    assert [(layer.keys, layer.state) for layer in found] == ([(0, state)] * 3 + [(512, 0)]) * 2


def test_an_unknown_architecture_with_a_window_counts_as_full() -> None:
    keys = {
        "general.architecture": "later",
        "later.block_count": 2,
        "later.embedding_length": 512,
        "later.attention.head_count": 8,
        "later.attention.sliding_window": 128,
    }
    assert [layer.window for layer in layers(parse(write(keys), 10**6))] == [None, None]


def test_parts_add_up_and_name_what_is_there() -> None:
    header, size = published("llama-3-8b")
    found = estimate(header, size, server(8192))
    assert found.device.total == 0
    assert found.ram.weights == size
    assert sum(found.ram.parts.values()) == found.ram.total
    assert list(found.ram.parts) == ["weights", "KV cache", "compute", "engine"]


def test_on_a_gpu_everything_but_the_table_of_tokens() -> None:
    header, size = published("llama-3-8b")
    found = estimate(header, size, tuning("llama-server", context=8192, parallel=1, backend="cuda"))
    assert found.device.cache == 1024 * MIB
    assert found.device.weights == size  # no tensors in this header: the bound
    assert found.ram.cache == 0
    assert found.ram.total < 2048 * MIB


def test_on_a_gpu_by_the_tensors() -> None:
    keys = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 2,
        "tokenizer.ggml.tokens": ["a"] * 32,
    }
    tensors = [("token_embd.weight", (64, 32), 0, 0), *((f"blk.{n}.a", (64, 64), 0, 8192) for n in (0, 1))]
    header = parse(write(keys, tensors), 10**6)
    whole = tuning("llama-server", context=256, parallel=1, backend="vulkan")
    found = estimate(header, 10**6, whole)
    # The output is the table of tokens, and a copy of it goes to the GPU.
    assert (found.device.weights, found.ram.weights) == (2 * 16384 + 8192, 8192)
    half = tuning("llama-server", context=256, parallel=1, backend="vulkan", args=("--n-gpu-layers", "2"))
    found = estimate(header, 10**6, half)
    assert (found.device.weights, found.ram.weights) == (16384 + 8192, 16384 + 8192)
    assert found.device.cache == found.ram.cache > 0


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "names no architecture"),
        ({"general.architecture": "llama"}, "no number of layers"),
        ({"general.architecture": "clip"}, "beside one: clip"),
        ({"general.architecture": "llama", "general.type": "adapter"}, "beside one: adapter"),
        (
            {"general.architecture": "llama", "llama.block_count": 10**6, "llama.embedding_length": 1},
            "layers",
        ),
    ],
)
def test_what_cannot_be_served_is_said(keys: dict[str, object], problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        layers(parse(write(keys), 10**6))


NAMES = (
    *("block_count", "embedding_length", "context_length", "feed_forward_length", "expert_used_count"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.sliding_window", "attention.sliding_window_pattern", "attention.shared_kv_layers"),
    *("full_attention_interval", "ssm.inner_size", "ssm.state_size", "wkv.head_size"),
)
NUMBER = (
    st.integers(0, 2**40) | st.lists(st.integers(0, 2**33), max_size=8) | st.booleans() | st.text(max_size=4)
)


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        NUMBER,
    ),
    st.sampled_from(["llama", "gemma3", "qwen3next", "mamba", "llama4"]),
    st.integers(1, 2**20),
    st.integers(1, 64),
)
def test_any_header_gives_numbers_or_a_refusal(
    keys: dict[str, object], arch: str, context: int, parallel: int
) -> None:
    named = {"general.architecture": arch} | {f"{arch}.{key}": value for key, value in keys.items()}
    for backend in ("cpu", "cuda"):
        settings = tuning("llama-server", context=context, parallel=parallel, backend=backend)
        try:
            found = estimate(parse(write(named), 10**12), 10**9, settings)
        except Malformed:
            return
        assert found.ram.total > 0
        assert all(size > 0 for size in (*found.ram.parts.values(), *found.device.parts.values()))


def test_what_the_arguments_make_of_the_slots() -> None:
    # llama-server is given 8192 × 4 cells, and told afterwards that there is one slot; then the other way.
    assert cache("llama-3-8b", server(8192, 4, n_parallel=1)) == 128 * KIB * 32768
    assert cache("llama-3-8b", server(8192, 1, np=4)) == 128 * KIB * 8192
    args = ("-c", "1024", "--ctx-size", "2048", "-c", "4096", "--parallel", "2")
    settings = tuning("llama-server", context=8192, parallel=1, backend="cpu", args=args)
    assert (settings.context, settings.slots) == (2048, 2), "the last one counts"


def kept(name: str, settings: Tuning) -> int:
    header, size = published(name)
    return estimate(header, size, settings).ram.kept


def test_what_is_kept_of_prompts_beside_the_slots() -> None:
    # Nothing, unless the user says so: then as much as it may become.
    assert kept("llama-3-8b", server(8192)) == 0
    assert kept("llama-3-8b", server(8192, cache_ram="512")) == 512 * MIB
    assert kept("llama-3-8b", server(8192, cram="0")) == 0
    header, size = published("llama-3-8b")
    assert "without a limit" in " ".join(estimate(header, size, server(8192, cache_ram="-1")).notes)


def test_copies_of_windows_and_states() -> None:
    # As in the cache of Gemma 3: 52 layers with 1536 cells of 8 KiB, of each of four slots, twice.
    one = 52 * 8 * KIB * 1536
    assert kept("gemma-3-27b", server(8192, 4)) == 4 * 2 * one
    assert kept("gemma-3-27b", server(8192, ctx_checkpoints="8")) == 8 * one
    assert kept("gemma-3-27b", server(8192, swa_full="true")) == 0
    header, _ = published("mamba-130m")
    assert kept("mamba-130m", server(4096)) == 2 * state_bytes(layers(header), server(4096))


def test_llama_cpp_python_keeps_prompts_when_it_is_told_to() -> None:
    def with_args(*args: str) -> int:
        settings = tuning("llama-cpp-python", context=4096, parallel=1, backend="cpu", args=args)
        return kept("gemma-3-27b", settings)

    assert with_args() == 0
    assert with_args("cache=true") == 2048 * MIB
    assert with_args("cache=true", f"cache_size={64 * MIB}") == 64 * MIB
    assert with_args("cache=true", "cache_type=disk") == 0


def test_slots_that_share_their_room_look_back_at_all_of_it() -> None:
    header, size = published("llama-3-8b")
    apart, shared = (
        estimate(header, size, server(8192, 4, **more)).ram for more in ({}, {"kv_unified": "on"})
    )
    assert shared.cache == apart.cache
    assert shared.compute - apart.compute == 512 * 4 * 3 * 8192


def test_flash_attention_is_left_to_the_engine_and_its_device() -> None:
    keys = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 1024,
        "llama.attention.head_count": 8,
    }

    def compute(length: int, backend: str, *args: str) -> int:
        header = parse(write({**keys, "llama.attention.key_length": length}), 10**9)
        found = estimate(
            header, 10**9, tuning("llama-server", context=8192, parallel=1, backend=backend, args=args)
        )
        return found.device.compute or found.ram.compute

    scores = 512 * 4 * 8 * 8192
    # There is no kernel for heads of 120 numbers on a GPU; a CPU computes any.
    assert compute(120, "cuda") - compute(120, "cpu") == scores
    assert compute(128, "cuda") == compute(128, "cpu")
    assert compute(128, "cuda", "fa=off") - compute(128, "cuda", "fa=auto") == scores
