"""llama-cpp-python: its OpenAI-compatible server under uvicorn, set up by environment variables."""

from __future__ import annotations

import difflib
from posixpath import basename

from rbee_ssh.engines import Engine, Launch, LaunchSettings, devices
from rbee_ssh.engines.arguments import pairs
from rbee_ssh.errors import UsageInvalid

# llama_cpp/server/settings.py of 0.3.36. The server ignores a variable it does not know, so a slip in a
# preset has to be found here.
_NAMES = """
n_gpu_layers split_mode main_gpu tensor_split vocab_only use_mmap use_mlock kv_overrides rpc_servers
seed n_ctx n_batch n_ubatch n_threads n_threads_batch rope_scaling_type rope_freq_base
rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow yarn_orig_ctx
mul_mat_q logits_all embedding offload_kqv flash_attn last_n_tokens_size lora_base lora_path numa
chat_format chat_template_kwargs clip_model_path cache cache_type cache_size
hf_tokenizer_config_path hf_pretrained_model_name_or_path draft_model draft_model_num_pred_tokens
type_k type_v verbose disable_ping_events root_path
"""
_SETTINGS = frozenset(_NAMES.split())

# llama-server's names for the same things.
_ALIASES = {
    "c": "n_ctx",
    "ctx_size": "n_ctx",
    "b": "n_batch",
    "batch_size": "n_batch",
    "ub": "n_ubatch",
    "ubatch_size": "n_ubatch",
    "t": "n_threads",
    "threads": "n_threads",
    "tb": "n_threads_batch",
    "threads_batch": "n_threads_batch",
    "ngl": "n_gpu_layers",
    "gpu_layers": "n_gpu_layers",
    "fa": "flash_attn",
    "ctk": "type_k",
    "cache_type_k": "type_k",
    "ctv": "type_v",
    "cache_type_v": "type_v",
    "mg": "main_gpu",
    "ts": "tensor_split",
    "rpc": "rpc_servers",
    "mlock": "use_mlock",
    "mmap": "use_mmap",
    "lora": "lora_path",
}
_GGML_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}


class LlamaCppPython(Engine):
    """One request at a time: `parallel` is not for this engine, further requests wait.

    `engine_path` is the Python interpreter that has the package. POSTs need `Content-Type: application/json`.
    """

    name = "llama-cpp-python"
    ready_path = "/v1/models"
    ready_pattern = "Uvicorn running on"
    port_pattern = "Uvicorn running on http://127.0.0.1:"
    binds_before_load = False
    idle_cpu = 0.01  # uvicorn's loop: measured 0.003

    def launch(self, settings: LaunchSettings) -> Launch:
        listen = ("--uds", settings.socket) if settings.socket else ("--host", "127.0.0.1", "--port", "0")
        env = {
            "MODEL": settings.model_path,
            "MODEL_ALIAS": settings.alias or basename(settings.model_path),
            # By default a new request cuts the running one short.
            "INTERRUPT_REQUESTS": "false",
            # By default the numbers behind every token of the context are kept, which is vocabulary × 4 bytes
            # a token, gigabytes with a long context, and for answers with logprobs only.
            "LOGITS_ALL": "false",
            "N_GPU_LAYERS": "0" if settings.backend == "cpu" else "-1",
        }
        if settings.context is not None:
            env["N_CTX"] = str(settings.context)
        for name, value in pairs(settings.args):
            env.update([_setting(name, value)])
        return Launch(
            argv=(
                settings.engine_path,
                *("-u", "-m", "uvicorn", "--factory", "llama_cpp.server.app:create_app"),
                *listen,
                "--no-access-log",
            ),
            env=(*env.items(), *devices.visible(settings.backend, settings.device)),
            key_env="API_KEY",
        )


def _setting(name: str, value: str | None) -> tuple[str, str]:
    """("flash_attn", None) → ("FLASH_ATTN", "true")."""
    negated = value is None and name.startswith("no_")
    key = name.removeprefix("no_") if negated else name
    key = _ALIASES.get(key, key)
    if key not in _SETTINGS:
        near = difflib.get_close_matches(key, sorted(_SETTINGS | _ALIASES.keys()), n=1)
        raise UsageInvalid(
            f"llama-cpp-python's server has no setting {name!r}",
            hint=f"the nearest is {near[0]}" if near else None,
            details={"settings": sorted(_SETTINGS)},
        )
    if value is None:
        value = "false" if negated else "true"
    elif key in ("type_k", "type_v"):
        value = str(_GGML_TYPES.get(value.lower(), value))
    elif key == "tensor_split" and not value.startswith("["):  # pydantic reads lists as JSON
        value = f"[{value}]"
    return key.upper(), value
