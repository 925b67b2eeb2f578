"""The llama.cpp servers rbee can start: one small pure module each."""

from __future__ import annotations

from rbee_ssh.engines.base import Engine, EngineFound, Launch, LaunchSettings, Readiness
from rbee_ssh.engines.llama_cpp_python import LlamaCppPython
from rbee_ssh.engines.llama_server import LlamaServer
from rbee_ssh.engines.xllamacpp import XLlamaCpp
from rbee_ssh.errors import UsageInvalid

ENGINES: tuple[Engine, ...] = (LlamaServer(), XLlamaCpp(), LlamaCppPython())
"""In the order in which `engine = "auto"` takes the first that runs."""


def by_name(name: str) -> Engine:
    """The engine called `name` in inventories and registries.

    Raises:
        UsageInvalid: there is none.
    """
    engines = {engine.name: engine for engine in ENGINES}
    if name not in engines:
        raise UsageInvalid(
            f"there is no engine called {name!r}", hint=f"the engines are {', '.join(engines)}"
        )
    return engines[name]


__all__ = ["ENGINES", "Engine", "EngineFound", "Launch", "LaunchSettings", "Readiness", "by_name"]
