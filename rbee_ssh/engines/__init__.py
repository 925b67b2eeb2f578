"""What every engine module answers: what to start, and how its readiness reads. Nothing here connects.

The engines are one small pure module each, imported when it is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from rbee_ssh.errors import UsageInvalid

NAMES = ("llama-server", "xllamacpp", "llama-cpp-python")
"""In the order in which `engine = "auto"` takes the first that runs."""


@dataclass(frozen=True, slots=True)
class EngineFound:
    """An engine that a probe found on a node.

    `path` is the program to run: the llama-server binary, or the Python interpreter that has the package.
    `problem` says why it does not run (exit status in words, the loader's own line), None when it does.
    `backends` are those it can compute on, "cpu" among them; empty when the probe could not tell.
    `devices` are the names llama.cpp gives the node's devices ("CUDA0"), as far as it lists them.
    `memory` holds the name, total and free bytes of those that the engine itself told.
    `library_path` is the LD_LIBRARY_PATH it was probed with and has to be started with, because its shared
    libraries lie beside it; None when it needs none.
    """

    name: str
    path: str
    version: str
    problem: str | None = None
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    library_path: str | None = None
    memory: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What a worker shall serve. Paths are absolute paths on the node.

    `context` is for each slot: an engine that divides its context by its slots is given the product.
    `backend` is one of inventory.BACKENDS, "auto" meaning that nobody could tell and the engine decides.
    `device` holds indices of that backend's devices: "0" or "0,1"; None: all of them.
    `alias` is the model's name in the engine's answers; None: its file name.
    """

    engine_path: str
    model_path: str
    key_file: str
    directory: str  # of the worker; files of Launch.files are written there
    socket: str | None  # None: listen on 127.0.0.1, any free port
    context: int | None = None  # tokens for each slot; None: the engine's default
    parallel: int = 1
    backend: str = "auto"
    device: str | None = None
    args: tuple[str, ...] = ()
    alias: str | None = None
    library_path: str | None = None  # EngineFound.library_path


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line for a node: values, not shell text.

    `env` goes over the environment of the node and of the inventory: what stands here is needed.
    `key_env` names the environment variable that is to hold the API key; the launcher on the node fills it
    from the key file, so that the key is in no argv.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    key_env: str | None = None
    files: tuple[tuple[str, str], ...] = ()  # name in the worker's directory, text


# What llama.cpp's server keeps of prompts beside its slots, unless the preset's arguments say otherwise. Its
# own defaults are 8 GiB of caches that slots have left, and for models with windows or recurrent layers 32
# copies of a slot's state: more than many nodes have, all of it taken long after the load. A slot remembers
# its last prompt in any case; the two copies are for a conversation that goes on behind its last answer.
CACHE_RAM_MIB = 0
CHECKPOINTS = 2


class Readiness(Enum):
    READY = "ready"
    LOADING = "loading"
    WRONG = "wrong"  # an answer no llama.cpp server gives


class Engine(Protocol):
    """One llama.cpp server program."""

    name: str
    ready_path: str  # GET this …
    ready_pattern: str  # … or find this literal text in the log: the model is loaded
    port_pattern: str  # literal text in the log that stands right before the port, for listen = "tcp"
    binds_before_load: bool  # False: the socket appears only after the model is loaded
    idle_cpu: float  # share of one CPU it may take while it does nothing

    def launch(self, settings: LaunchSettings) -> Launch:
        """The command that serves `settings`.

        Raises:
            UsageInvalid: an engine argument that this engine cannot take.
        """
        ...

    def readiness(self, status: int) -> Readiness:
        """How the HTTP status of `ready_path` reads. Asked without the key: 401 is of one that serves."""
        ...


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
