"""The launcher on the node: how arguments reach CommonParams. A stand-in has its shape."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from rbee_ssh.engines.xllamacpp_serve import SettingError, apply, fill


class FlashAttention(enum.IntEnum):
    LLAMA_FLASH_ATTN_TYPE_AUTO = -1
    LLAMA_FLASH_ATTN_TYPE_DISABLED = 0
    LLAMA_FLASH_ATTN_TYPE_ENABLED = 1


class CacheType(enum.IntEnum):
    GGML_TYPE_F16 = 1
    GGML_TYPE_Q8_0 = 8


class LoadMode(enum.IntEnum):
    LLAMA_LOAD_MODE_AUTO = -1
    LLAMA_LOAD_MODE_NONE = 0
    LLAMA_LOAD_MODE_MLOCK = 2


@pytest.fixture
def params() -> Any:
    return SimpleNamespace(
        model=SimpleNamespace(path=""),
        cpuparams=SimpleNamespace(n_threads=-1),
        n_ctx=0,
        n_batch=2048,
        n_gpu_layers=-1,
        n_parallel=1,
        rope_freq_base=0.0,
        warmup=True,
        no_kv_offload=False,
        no_op_offload=False,
        flash_attn_type=FlashAttention.LLAMA_FLASH_ATTN_TYPE_AUTO,
        cache_type_k=CacheType.GGML_TYPE_F16,
        load_mode=LoadMode.LLAMA_LOAD_MODE_AUTO,
        tensor_split=[0.0] * 4,
        antiprompt=[],
        default_template_kwargs={},
        chat_template="",
        cors_origins="*",
        cache_ram_mib=8192,
        handle=lambda: None,
    )


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("ctx_size", "4096", "n_ctx", 4096),
        ("b", "64", "n_batch", 64),
        ("n_batch", "64", "n_batch", 64),
        ("rope_freq_base", "1e6", "rope_freq_base", 1e6),
        ("warmup", "off", "warmup", False),
        ("no_warmup", None, "warmup", False),
        ("no_kv_offload", None, "no_kv_offload", True),
        ("kv_offload", "off", "no_kv_offload", True),
        ("flash_attn", "on", "flash_attn_type", FlashAttention.LLAMA_FLASH_ATTN_TYPE_ENABLED),
        ("fa", None, "flash_attn_type", FlashAttention.LLAMA_FLASH_ATTN_TYPE_ENABLED),
        ("flash_attn", "off", "flash_attn_type", FlashAttention.LLAMA_FLASH_ATTN_TYPE_DISABLED),
        ("cache_type_k", "q8_0", "cache_type_k", CacheType.GGML_TYPE_Q8_0),
        ("mlock", None, "load_mode", LoadMode.LLAMA_LOAD_MODE_MLOCK),
        ("no_mmap", None, "load_mode", LoadMode.LLAMA_LOAD_MODE_NONE),
        ("tensor_split", "3,1", "tensor_split", [3.0, 1.0, 0.0, 0.0]),
        ("antiprompt", "a,b", "antiprompt", ["a", "b"]),
        ("default_template_kwargs", '{"thinking": false}', "default_template_kwargs", {"thinking": False}),
        ("chat_template", "x=y", "chat_template", "x=y"),
    ],
)
def test_a_value_takes_the_type_of_its_setting(
    params: Any, name: str, text: str | None, attribute: str, value: object
) -> None:
    apply(params, name, text)
    assert getattr(params, attribute) == value


def test_a_setting_inside_another(params: Any) -> None:
    apply(params, "threads", "3")
    assert params.cpuparams.n_threads == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such", "hunter2"),
        ("n_ctx", "hunter2"),
        ("n_ctx", None),
        ("warmup", "hunter2"),
        ("flash_attn", "hunter2"),
        ("handle", "hunter2"),
        ("__class__", "hunter2"),
        ("cpuparams", "hunter2"),
        ("cpuparams.__class__", "hunter2"),
        ("default_template_kwargs", "hunter2"),
    ],
)
def test_what_cannot_be_set_is_named_and_its_value_is_not(params: Any, name: str, text: str | None) -> None:
    with pytest.raises(SettingError) as caught:
        apply(params, name, text)
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)


def settings(**changed: object) -> dict[str, Any]:
    return {
        "model": "/m.gguf",
        "alias": "m",
        "host": "/w/sock",
        "context": 1024,
        "parallel": 2,
        "backend": "auto",
        "cache_ram_mib": 0,
        "n_ctx_checkpoints": 2,
        "args": [],
        **changed,
    }


def test_what_the_worker_shall_serve(params: Any) -> None:
    fill(params, settings(), "secret")
    assert (params.model.path, params.hostnames, params.api_keys) == ("/m.gguf", ["/w/sock"], ["secret"])
    assert (params.n_ctx, params.n_parallel, params.n_gpu_layers) == (1024, 2, -1)
    assert params.cors_origins == "localhost"
    assert params.cache_ram_mib == 0
    assert not hasattr(params, "n_ctx_checkpoints"), "a build that does not know a setting goes without it"


def test_the_backend_decides_where_the_layers_go(params: Any) -> None:
    fill(params, settings(backend="cpu"), "k")
    assert (params.n_gpu_layers, params.no_op_offload, params.no_kv_offload) == (0, True, True)
    fill(params, settings(backend="cuda"), "k")
    assert params.n_gpu_layers == 999


def test_arguments_of_a_preset_count_more_than_ours(params: Any) -> None:
    fill(params, settings(args=[["ctx_size", "77"], ["n_gpu_layers", "3"]], backend="cuda"), "k")
    assert (params.n_ctx, params.n_gpu_layers) == (77, 3)
