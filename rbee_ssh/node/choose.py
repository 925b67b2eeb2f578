"""Which of the engines found on a node shall serve, on what, or which error says why none can."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.engines import EngineFound
from rbee_ssh.engines.devices import NOT_A_GPU, PREFIXES, backend_of
from rbee_ssh.errors import BackendInvalid, BackendUnavailable, DeviceInvalid, EngineBroken, EngineMissing
from rbee_ssh.inventory import BACKENDS, Node
from rbee_ssh.node.facts import ENDED_EARLY, Facts
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.wording import listed, nearest, quoted


@dataclass(frozen=True, slots=True)
class Choice:
    """What LaunchSettings gets."""

    engine: EngineFound
    backend: str  # "auto" only when nobody could tell what the engine computes on
    device: str | None = None
    warning: str | None = None  # one line: the engine runs, but not on the GPU that the node has


def named_engine(node: Node) -> tuple[str, ...]:
    """The keys of the inventory that point at an engine of this node."""
    return tuple(key for key in ("engine_path", "python") if getattr(node, key) is not None)


def choose_engine(facts: Facts, node: Node, *, engine: str, backend: str, device: str | None) -> Choice:
    """The first engine that runs, in the order of "auto", and that has the backend which was asked for.

    Args:
        engine: "auto" or an engine's name.
        backend: one of inventory.BACKENDS. "auto" takes the best the engine can; any other is meant.
        device: "0" or "0,1", indices of the backend's devices; None for all.

    Raises:
        BackendInvalid: no such backend.
        DeviceInvalid: not a list of indices, or one that the node has not.
        EngineMissing: nothing was found where engines are looked for.
        EngineBroken: what was found does not run.
        BackendUnavailable: no engine that runs can compute on `backend` there. There is no fallback.
    """
    if backend not in BACKENDS:
        near = nearest(backend, BACKENDS)
        raise BackendInvalid(
            f"there is no backend {quoted(backend)}",
            hint=f"--backend {near}" if near else f"the backends are {listed(BACKENDS)}",
            details={"backends": list(BACKENDS)},
        )
    if device is not None and not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", device, re.ASCII):
        raise DeviceInvalid(
            f"{quoted(device)} is not a list of device indices", hint="write --device 0 or --device 0,1"
        )
    running = _running(facts, engine, node)
    if backend in ("auto", "cpu"):
        chosen, resolved = running[0], _best(facts, running[0]) if backend == "auto" else "cpu"
    else:
        able = [candidate for candidate in running if _can(facts, candidate, backend)]
        if not able:
            raise _unavailable(facts, running, backend, node.name)
        chosen, resolved = able[0], backend
    _check_device(facts, chosen, resolved, device, node.name)
    warning = _unused_gpu(facts, chosen, node.name) if backend == "auto" else None
    return Choice(chosen, resolved, device or _only(chosen, resolved), warning)


def _running(facts: Facts, engine: str, node: Node) -> Sequence[EngineFound]:
    node_name = node.name
    if engine == "auto" and node.engine_path is not None:  # a path that was given is meant (engines.sh)
        engine = "llama-server"
    what, part = ("llama.cpp server", "") if engine == "auto" else (engine, engine)
    present = [found for found in facts.engines if part in ("", found.name)]
    if not present:
        looked = [line for line in facts.looked if part in line]
        early = ENDED_EARLY in facts.problems
        broken = [text for text in facts.problems if text == ENDED_EARLY or " does not run: " in text]
        raise EngineMissing(
            f"no {what} on {node_name}"
            + (f"; looked for {'; '.join(looked)}" if looked else "")
            + "".join(f"; {text}" for text in broken),
            hint=f"rbee nodes run {shlex.quote(node_name)} -- ulimit -a   # what may its login use?"
            if early
            else _hint(engine, node),
            details={"node": node_name, "engine": engine, "looked": looked, "problems": list(facts.problems)},
        )
    running = [found for found in present if found.problem is None]
    if not running:
        first = present[0]
        raise EngineBroken(
            f"{first.name} on {node_name} does not run: {first.path}: {first.problem}",
            hint=_hint("auto", node),
            details={
                "node": node_name,
                "engines": [{"name": e.name, "path": e.path, "problem": e.problem} for e in present],
            },
        )
    return running


def _hint(engine: str, node: Node) -> str:
    """`setup` puts an engine on the node; it would not be looked at beside one that the inventory names."""
    from rbee_ssh.node.remedies import install

    fix, named = install(engine, node.name), " and ".join(named_engine(node))
    if not named:
        return fix
    return f"change {named} of node {node.name} in the inventory, or remove it, then: {fix}"


def _best(facts: Facts, engine: EngineFound) -> str:
    """What "auto" comes to: the engine's GPU backend that the node serves, the CPU when there is none."""
    for backend in PREFIXES:
        if _can(facts, engine, backend) and engine.backends:
            return backend
    # A GPU of a kind that rbee has no word for, or an engine that did not tell: it decides by itself.
    if any(not name.startswith(NOT_A_GPU) for name in engine.devices) or (facts.gpus and not engine.backends):
        return "auto"
    return "cpu"


def _can(facts: Facts, engine: EngineFound, backend: str) -> bool:
    if engine.devices:
        return any(backend_of(name) == backend for name in engine.devices)
    if engine.backends and backend not in engine.backends:
        return False
    return bool(_suitable(facts, backend))


def _suitable(facts: Facts, backend: str) -> Sequence[Gpu]:
    """The node's GPUs that `backend` can use; Vulkan is at home on more than one vendor's."""
    return [gpu for gpu in facts.gpus if backend in (gpu.backend, "vulkan")]


def _only(engine: EngineFound, backend: str) -> str | None:
    """All of the backend's devices by their indices, where the engine has devices of others too."""
    backends = [backend_of(name) for name in engine.devices]
    count = backends.count(backend)
    if not count or not set(backends) - {backend, None}:
        return None
    return ",".join(map(str, range(count)))


def _check_device(
    facts: Facts, engine: EngineFound, backend: str, device: str | None, node_name: str
) -> None:
    if device is None:
        return
    if backend == "cpu":
        raise DeviceInvalid(
            f"device {device} was asked for, but {engine.name} on {node_name} computes on the CPU",
            hint="leave --device out",
        )
    names = [name for name in engine.devices if backend_of(name) == backend]
    names = names or [gpu.name for gpu in _suitable(facts, backend)]
    missing = [index for index in device.split(",") if int(index) >= len(names)]
    if names and missing:
        present = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        raise DeviceInvalid(
            f"{node_name} has no device {', '.join(missing)} for {backend}; it has {present}",
            hint=f"--device {','.join(str(index) for index in range(len(names)))}",
            details={"node": node_name, "backend": backend, "devices": names},
        )


def _unavailable(
    facts: Facts, running: Sequence[EngineFound], backend: str, node_name: str
) -> BackendUnavailable:
    has = listed(gpu.name for gpu in facts.gpus) or "no GPU that its drivers' tools show"
    can = "; ".join(
        f"{engine.name} ({engine.path}) computes on {listed(engine.backends) or 'what it does not tell'}"
        for engine in running
    )
    broken = [problem for problem in facts.problems if "-smi" in problem]
    return BackendUnavailable(
        f"{node_name} cannot compute on {backend}: it has {has}; {can}"
        + "".join(f"; {text}" for text in broken),
        hint="--backend cpu runs the model on the CPU",
        details={
            "node": node_name,
            "backend": backend,
            "gpus": [gpu.name for gpu in facts.gpus],
            "engines": [{"name": e.name, "path": e.path, "backends": list(e.backends)} for e in running],
        },
    )


def _unused_gpu(facts: Facts, engine: EngineFound, node_name: str) -> str | None:
    if not facts.gpus or not engine.backends or _best(facts, engine) != "cpu":
        return None
    from rbee_ssh.node.remedies import build_for

    gpu = facts.gpus[0]
    return (
        f"{node_name} has {gpu.name}, but its {engine.name} is a build for the CPU only and runs there; "
        f"for the GPU: {build_for(engine, gpu, node_name)}"
    )
