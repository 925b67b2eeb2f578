"""The llama.cpp servers rbee can start: one small pure module each, imported when it is wanted."""

from __future__ import annotations

from rbee_ssh.engines.base import Engine, EngineFound, Launch, LaunchSettings, Readiness
from rbee_ssh.errors import UsageInvalid

NAMES = ("llama-server", "xllamacpp", "llama-cpp-python")
"""In the order in which `engine = "auto"` takes the first that runs."""


def by_name(name: str) -> Engine:
    """The engine called `name` in inventories and registries.

    Raises:
        UsageInvalid: there is none.
    """
    match name:
        case "llama-server":
            from rbee_ssh.engines.llama_server import LlamaServer

            return LlamaServer()
        case "xllamacpp":
            from rbee_ssh.engines.xllamacpp import XLlamaCpp

            return XLlamaCpp()
        case "llama-cpp-python":
            from rbee_ssh.engines.llama_cpp_python import LlamaCppPython

            return LlamaCppPython()
    known = ", ".join(NAMES)
    raise UsageInvalid(f"there is no engine called {name!r}", hint=f"the engines are {known}")


__all__ = ["NAMES", "Engine", "EngineFound", "Launch", "LaunchSettings", "Readiness", "by_name"]
