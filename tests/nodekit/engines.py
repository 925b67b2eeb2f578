"""What scripts/test prepared: engines and a model that every user of the machine can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

MODEL = "RBEE_TEST_MODEL"
LLAMA_SERVER = "RBEE_TEST_LLAMA_SERVER"
RPC_SERVER = "RBEE_TEST_RPC_SERVER"
XLLAMACPP_PYTHON = "RBEE_TEST_XLLAMACPP_PYTHON"
LLAMA_CPP_PYTHON = "RBEE_TEST_LLAMA_CPP_PYTHON"
WHEELS = "RBEE_TEST_WHEELS"
ALL = (MODEL, LLAMA_SERVER, RPC_SERVER, XLLAMACPP_PYTHON, LLAMA_CPP_PYTHON)


@dataclass(frozen=True, slots=True)
class Engines:
    """Where the real engines are. Asking for one that is not there skips the test, and says why."""

    environ: Mapping[str, str]

    @property
    def llama_server(self) -> Path:
        """A llama-server that finds its libraries by itself."""
        return self._path(LLAMA_SERVER)

    @property
    def rpc_server(self) -> Path:
        """ggml-rpc-server of the same build."""
        return self._path(RPC_SERVER)

    @property
    def xllamacpp_python(self) -> Path:
        """A Python that can import xllamacpp."""
        return self._path(XLLAMACPP_PYTHON)

    @property
    def llama_cpp_python(self) -> Path:
        """A Python that can import llama_cpp.server; `scripts/test --quick` makes none."""
        return self._path(LLAMA_CPP_PYTHON)

    @property
    def model(self) -> Path:
        """SmolLM2-135M-Instruct, Q4_1, as a GGUF file."""
        return self._path(MODEL)

    @property
    def wheels(self) -> Path:
        """A directory with wheels of xllamacpp and uv."""
        return self._path(WHEELS)

    def inventory_keys(self, engine: str) -> dict[str, str]:
        """The keys that point a node's table at this engine ("llama-server", "xllamacpp", …)."""
        match engine:
            case "llama-server":
                return {"engine": engine, "engine_path": str(self.llama_server)}
            case "xllamacpp":
                return {"engine": engine, "python": str(self.xllamacpp_python)}
            case _:
                return {"engine": engine, "python": str(self.llama_cpp_python)}

    def _path(self, variable: str) -> Path:
        value = self.environ.get(variable)
        if not value:
            pytest.skip(f"{variable} is not set: run scripts/test, which prepares it")
        return Path(value)


def visible_directories(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The directories those variables point into, for nodes that would not see them otherwise."""
    return sorted({_whole(name, Path(environ[name])) for name in ALL if environ.get(name)})


def _whole(variable: str, path: Path) -> Path:
    """A Python needs its environment around it, two steps up; the others need what lies beside them."""
    return path.parent.parent if variable in (XLLAMACPP_PYTHON, LLAMA_CPP_PYTHON) else path.parent
