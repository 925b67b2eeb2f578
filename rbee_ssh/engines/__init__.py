"""What every engine module answers: what to start, and how its readiness reads. Nothing here connects.

The engines are one small pure module each, imported when it is wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from rbee_ssh.errors import UsageInvalid

NAMES = ("llama-server", "xllamacpp", "llama-cpp-python")
"""In the order in which `engine = "auto"` takes the first that runs."""


@dataclass(frozen=True, slots=True)
class EngineFound:
    """An engine that a probe found on a node."""

    name: str
    path: str  # the program to run: llama-server, or the Python interpreter that has the package
    version: str
    problem: str | None = None  # why it does not run: exit status in words, the loader's own line
    backends: tuple[str, ...] = ()  # it can compute on, "cpu" among them; empty: the probe could not tell
    devices: tuple[str, ...] = ()  # llama.cpp's names of them ("CUDA0"), as far as it lists them
    # The LD_LIBRARY_PATH it was probed with and has to be started with: its shared libraries lie beside it.
    library_path: str | None = None
    memory: tuple[tuple[str, int, int], ...] = ()  # devices that it listed itself: name, total and free bytes


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What a worker shall serve. Paths are absolute paths on the node."""

    engine_path: str
    model_path: str
    key_file: str
    directory: str  # of the worker; files of Launch.files are written there
    socket: str | None  # None: listen on 127.0.0.1, any free port
    context: int | None = None  # tokens for each slot; None: the engine's default
    parallel: int = 1
    backend: str = "auto"  # of inventory.BACKENDS; "auto": nobody could tell, and the engine decides
    device: str | None = None  # indices of that backend's devices: "0" or "0,1"; None: all of them
    args: tuple[str, ...] = ()
    alias: str | None = None  # the model's name in the engine's answers; None: its file name
    library_path: str | None = None  # EngineFound.library_path

    @property
    def total_context(self) -> int | None:
        """For an engine that divides its context by its slots."""
        return None if self.context is None else self.context * max(self.parallel, 1)


@dataclass(frozen=True, slots=True)
class Launch:
    """A command line for a node: values, not shell text."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()  # over that of the node and of the inventory: it is needed
    key_env: str | None = None  # the variable for the API key, filled on the node: the key is in no argv
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


class Engine(ABC):
    """One llama.cpp server program. What stands here is llama.cpp's own server."""

    name: str
    ready_path = "/health"  # GET this …
    ready_pattern = "model loaded"  # … or find this literal text in the log: the model is loaded
    # Literal text in the log that stands right before the port, for listen = "tcp".
    port_pattern = "listening on http://127.0.0.1:"
    binds_before_load = True  # False: the socket appears only after the model is loaded
    idle_cpu = 0.0  # share of one CPU it may take while it does nothing

    @abstractmethod
    def launch(self, settings: LaunchSettings) -> Launch:
        """The command that serves `settings`.

        Raises:
            UsageInvalid: an argument of the preset that this engine cannot take.
        """

    def readiness(self, status: int) -> Readiness:
        """How the HTTP status of `ready_path` reads. Asked without the key: 401 is of one that serves."""
        readings = {200: Readiness.READY, 401: Readiness.READY, 503: Readiness.LOADING}
        return readings.get(status, Readiness.WRONG)


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
