"""Runs on the node: serves one model with xllamacpp. Standard library only, Python 3.10 or newer.

usage: python -u serve.py SETTINGS.json

Exit status: 1 the model does not load · 64 a setting that xllamacpp does not have or cannot take ·
69 no device of the backend that was asked for · 143 ended by SIGTERM.
"""

import enum
import importlib
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

EX_USAGE = 64
EX_UNAVAILABLE = 69

# llama-server's names, where they are not simply an attribute of CommonParams with "-" for "_".
NAMES = {
    "c": "n_ctx",
    "ctx_size": "n_ctx",
    "np": "n_parallel",
    "parallel": "n_parallel",
    "b": "n_batch",
    "batch_size": "n_batch",
    "ub": "n_ubatch",
    "ubatch_size": "n_ubatch",
    "t": "cpuparams.n_threads",
    "threads": "cpuparams.n_threads",
    "tb": "cpuparams_batch.n_threads",
    "threads_batch": "cpuparams_batch.n_threads",
    "threads_http": "n_threads_http",
    "prio": "cpuparams.priority",
    "poll": "cpuparams.poll",
    "ngl": "n_gpu_layers",
    "gpu_layers": "n_gpu_layers",
    "sm": "split_mode",
    "ts": "tensor_split",
    "mg": "main_gpu",
    "ctk": "cache_type_k",
    "ctv": "cache_type_v",
    "fa": "flash_attn_type",
    "flash_attn": "flash_attn_type",
    "kvu": "kv_unified",
    "kv_offload": "!no_kv_offload",
    "op_offload": "!no_op_offload",
    "context_shift": "ctx_shift",
    "metrics": "endpoint_metrics",
    "slots": "endpoint_slots",
    "cache_reuse": "n_cache_reuse",
    "cache_ram": "cache_ram_mib",
    "cram": "cache_ram_mib",
    "ctx_checkpoints": "n_ctx_checkpoints",
    "ctxcp": "n_ctx_checkpoints",
    "swa_checkpoints": "n_ctx_checkpoints",
    "mm": "mmproj.path",
    "mmproj": "mmproj.path",
    "rope_scaling": "rope_scaling_type",
    "pooling": "pooling_type",
    "embeddings": "embedding",
    "jinja": "use_jinja",
    "ot": "tensor_buft_overrides",
    "override_tensor": "tensor_buft_overrides",
    "temp": "sampling.temp",
    "fit": "fit_params",
    "sps": "slot_prompt_similarity",
    "log_verbosity": "verbosity",
    "lv": "verbosity",
}
# Switches of llama-server that became values of one setting.
LOAD_MODES = {
    "mlock": "mlock",
    "mmap": "mmap",
    "no_mmap": "none",
    "dio": "direct_io",
    "direct_io": "direct_io",
}
YES = ("1", "on", "true", "yes", "enabled")
NO = ("0", "off", "false", "no", "disabled")


class SettingError(Exception):
    """A setting that xllamacpp does not have or cannot take. The message never quotes a value."""


def convert(name: str, present: Any, text: str | None) -> Any:
    """`text` as the type that the setting has at present. None, a bare option, is for switches only."""
    if text is None and isinstance(present, (bool, enum.Enum)):
        text = "on"
    if text is None:
        raise SettingError(f"{name} needs a value")
    try:
        if isinstance(present, bool):
            if text.lower() not in YES + NO:
                raise ValueError
            return text.lower() in YES
        if isinstance(present, enum.Enum):
            return _member(type(present), text)
        if isinstance(present, (int, float, str)):
            return type(present)(text)
        if isinstance(present, (list, set)):
            kinds = {type(item) for item in present} or {str}
            kind = kinds.pop()
            items = [kind(part) for part in text.split(",") if part]
            if kind is float:  # tensor_split has a place for every device that there could be
                items += [0.0] * (len(present) - len(items))
            return type(present)(items)
        if isinstance(present, dict):
            return json.loads(text)
    except ValueError:
        raise SettingError(f"{name} cannot take that value: it is of type {type(present).__name__}") from None
    raise SettingError(f"{name} cannot be set by an argument")


def _member(kind: type[enum.Enum], text: str) -> enum.Enum:
    # LLAMA_FLASH_ATTN_TYPE_ENABLED for "on", GGML_TYPE_Q8_0 for "q8_0".
    wanted = {text.upper()}
    if text.lower() in YES:
        wanted |= {"ENABLED", "ON"}
    if text.lower() in NO:
        wanted |= {"DISABLED", "OFF", "NONE"}
    first, last = min(kind.__members__), max(kind.__members__)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    start = first.rfind("_", 0, common) + 1
    for name, member in kind.__members__.items():
        if name in wanted or name[start:] in wanted:
            return member
    raise ValueError


def apply(params: Any, name: str, text: str | None) -> None:
    """Set what llama-server or CommonParams calls `name`; `no_X` switches X off.

    Raises:
        SettingError: there is no such setting, or it cannot take this value.
    """
    if name in LOAD_MODES and text is None and hasattr(params, "load_mode"):
        name, text = "load_mode", LOAD_MODES[name]
    path = NAMES.get(name, name)
    if _owner(params, path) is None and text is None and name.startswith("no_"):
        path, text = NAMES.get(name[3:], name[3:]), "off"
    negated, path = path.startswith("!"), path.lstrip("!")
    owner = _owner(params, path)
    if owner is None:
        raise SettingError(f"xllamacpp has no setting called {name!r}")
    attribute = path.rpartition(".")[2]
    value = convert(name, getattr(owner, attribute), text)
    try:
        setattr(owner, attribute, not value if negated else value)
    except (TypeError, ValueError, AttributeError, OverflowError, AssertionError):
        raise SettingError(f"xllamacpp does not accept that value for {name}") from None


def _owner(params: Any, path: str) -> Any:
    """The object that holds the last part of "cpuparams.n_threads"; None when there is no such attribute."""
    *parents, last = path.lstrip("!").split(".")
    owner = params
    for part in parents:
        owner = None if part.startswith("_") else getattr(owner, part, None)
    if owner is None or last.startswith("_") or not hasattr(owner, last) or callable(getattr(owner, last)):
        return None
    return owner


def fill(params: Any, settings: dict[str, Any], key: str) -> None:
    """Bring what the worker shall serve, then the preset's own arguments, into CommonParams."""
    params.model.path = settings["model"]
    params.hostnames = [settings["host"]]
    params.port = 0
    params.api_keys = [key]
    params.model_alias = {settings["alias"]}
    params.n_parallel = settings["parallel"]
    if settings["context"] is not None:
        params.n_ctx = settings["context"]
    if settings["backend"] == "cpu":
        params.n_gpu_layers, params.no_op_offload, params.no_kv_offload = 0, True, True
    elif settings["backend"] != "auto":
        params.n_gpu_layers = 999  # all: what does not fit is an error, not a slower run
    # Settings that have come and may go. No web page, none of another origin; nothing is to be fetched.
    settled = {"ui": False, "cors_origins": "localhost", "offline": True}
    settled |= {name: settings[name] for name in ("cache_ram_mib", "n_ctx_checkpoints")}
    for name, value in settled.items():
        if hasattr(params, name):
            setattr(params, name, value)
    for name, text in settings["args"]:
        apply(params, name, text)


def main(argv: Sequence[str]) -> int:
    # A parent may have left these ignored; the default action ends a load at once, in C++ too.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open(argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    with open(settings["key_file"], encoding="utf-8") as file:
        key = file.read().strip()
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    try:
        fill(params, settings, key)
    except SettingError as error:
        return say(str(error), EX_USAGE)
    if settings["device_prefixes"]:
        names = [str(device["name"]) for device in xllamacpp.get_device_info()]
        if not any(name.startswith(tuple(settings["device_prefixes"])) for name in names):
            return say(f"no {settings['backend']} device; this build sees {', '.join(names)}", EX_UNAVAILABLE)
    try:
        server = xllamacpp.Server(params)  # returns once the model is loaded
    except RuntimeError as error:
        return say(f"cannot serve {settings['model']}: {error}", 1)
    # llama.cpp's log says both, unless its verbosity was turned down.
    say("model loaded", 0)
    say(f"listening on {server.listening_address}", 0)
    while True:
        signal.pause()


def say(text: str, status: int) -> int:
    sys.stderr.write(f"rbee: {text}\n")
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv))
