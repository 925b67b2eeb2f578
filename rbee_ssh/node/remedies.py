"""The commands that put right what a node lacks, to be pasted by a user."""

from __future__ import annotations

import shlex

from rbee_ssh.engines import EngineFound
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.gpus import Gpu

VENV = "~/.local/share/rbee/venv"
# The project's own package indexes; their names say which driver a wheel was built for.
_WHEELS = "https://xorbitsai.github.io/xllamacpp/whl"
_INDEX = {"cuda": "cu128", "rocm": "rocm-6.4.1", "vulkan": "vulkan"}
_CMAKE = {"cuda": "-DGGML_CUDA=on", "rocm": "-DGGML_HIP=on", "metal": "-DGGML_METAL=on"}


def on_node(destination: str | None, command: str) -> str:
    """`command` as one types it here; `destination` is what follows `ssh`, quoted, None for this machine."""
    return command if destination is None else f"ssh {destination} {shlex.quote(command)}"


def install_xllamacpp(facts: Facts, destination: str | None) -> str:
    """The shortest way to an engine: a wheel in an environment of its own, nothing to compile, no root."""
    make = f"python3 -m venv {VENV} && {VENV}/bin/pip install xllamacpp"
    if facts.python is not None and not facts.python.venv:
        # Debian and Ubuntu keep ensurepip in a package of its own.
        make = f"sudo apt-get install python3-venv && {make}"
    return on_node(destination, make)


def install(engine: str, facts: Facts, destination: str | None) -> str:
    """How the node gets the engine that was asked for."""
    if engine == "llama-server":
        return (
            "put llama-server of a llama.cpp release into ~/.local/bin there, name it as engine_path in the "
            "inventory, or leave --engine out: "
        ) + install_xllamacpp(facts, destination)
    command = install_xllamacpp(facts, destination)
    if engine == "llama-cpp-python":
        return command.replace("pip install xllamacpp", 'pip install "llama-cpp-python[server]"')
    return command


def build_for(found: EngineFound, gpu: Gpu, destination: str | None) -> str:
    """How this engine becomes one that can use `gpu`."""
    python = shlex.quote(found.path)
    if found.name == "xllamacpp" and gpu.backend in _INDEX:
        index = f"{_WHEELS}/{_INDEX[gpu.backend]}"
        return on_node(
            destination, f"{python} -m pip install --force-reinstall xllamacpp --index-url {index}"
        )
    if found.name == "llama-cpp-python" and gpu.backend in _CMAKE:
        return on_node(
            destination,
            f"CMAKE_ARGS={_CMAKE[gpu.backend]} {python} -m pip install --force-reinstall "
            "--no-binary llama-cpp-python 'llama-cpp-python[server]'",
        )
    return (
        f"put a {gpu.backend} build of llama.cpp into ~/.local/share/rbee/engines there, "
        "or name it as engine_path in the inventory"
    )
