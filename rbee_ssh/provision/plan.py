"""What `rbee nodes setup` is to do on one node: decided before anything is done. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from rbee_ssh.engines.devices import PREFIXES
from rbee_ssh.engines.packages import (
    CMAKE_ARGS,
    PACKAGES,
    Package,
    xllamacpp_index,
    xllamacpp_indexes,
)
from rbee_ssh.errors import BackendUnavailable, SetupFailed, UsageInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.provision.archive import Archive
from rbee_ssh.ssh.quote import quote
from rbee_ssh.wording import quoted

ENGINES = ("xllamacpp", "llama-cpp-python", "llama-server")
_INDEX = re.compile(r"(https?|file)://[^\s\"'\\]+")
_ENDING = re.compile(r"\.(tar\.gz|tgz|zip|tar\.xz|tar)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """What the user asked for."""

    engine: str
    backend: str | None = None  # None: what the inventory says, and its default is the node's GPU
    archive: Archive | None = None
    index_url: str | None = field(default=None, repr=False)  # may hold a password
    cmake_args: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What of a node's facts counts here."""

    os: str | None
    gpus: tuple[tuple[str, str], ...] = ()  # each one's name and the backend made for it
    rocm: str | None = None
    broken: str | None = None  # why a GPU's tool did not answer


@dataclass(frozen=True, slots=True)
class PythonPlan:
    """A package in the environment. `pattern` is of the devices that it has to see; empty for the CPU."""

    package: Package
    index: str | None = field(repr=False)
    pattern: str
    cmake_args: str | None


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """A release archive in a directory of its own."""

    archive: Archive
    directory: str
    pattern: str


Plan = PythonPlan | ArchivePlan


def wanted(
    engine: str | None,
    *,
    backend: str | None,
    archive: Archive | None,
    sha256: str | None,
    index_url: str | None,
    cmake_args: str | None,
) -> SetupRequest:
    """The options of the command, if they fit together.

    Raises:
        UsageInvalid: they do not.
    """
    engine = engine or ("llama-server" if archive else "xllamacpp")
    if engine == "llama-server" and archive is None:
        raise UsageInvalid(
            "llama-server comes in a release archive, and none was named",
            hint="download one from https://github.com/ggml-org/llama.cpp/releases, then: "
            "rbee nodes setup NAME --archive FILE   (or --archive URL)",
        )
    if archive is not None and engine != "llama-server":
        raise UsageInvalid(f"--archive holds llama-server; it does not go with --engine {engine}")
    if sha256 and archive is None:
        raise UsageInvalid("--sha256 is the checksum of an archive: it needs --archive")
    if index_url and archive is not None:
        raise UsageInvalid("--index-url is for Python packages; an archive is a file or URL of its own")
    if index_url and not _INDEX.fullmatch(index_url):
        raise UsageInvalid("--index-url is not a URL such as https://example.org/simple")
    if index_url and index_url.startswith("http:"):
        raise UsageInvalid(
            "--index-url: over http a package can be changed on its way, and it will run: https is needed",
            hint="an index that a node is to trust without TLS belongs into its own pip.conf (index-url, "
            "trusted-host); then: rbee nodes setup NAME",
        )
    return SetupRequest(engine, backend, archive, index_url, cmake_args or None)


def plan(node: Node, asked: SetupRequest, machine: Machine) -> Plan:
    """What to do on this node.

    Raises:
        UsageInvalid: the inventory points at an engine elsewhere, which would hide the new one.
        BackendUnavailable: a backend the node has no device for.
        SetupFailed: no build for the node's GPU is known, or its driver does not work; names the command.
    """
    # A path that is given is meant: beside it, "auto" looks at no other program.
    named = node.engine_path is not None and node.engine == "auto"
    hidden = "engine_path" if named or asked.engine == "llama-server" else "python"
    if getattr(node, hidden) is not None:
        raise UsageInvalid(
            f"node {quoted(node.name)} has {hidden} = {quoted(str(getattr(node, hidden)))} in the inventory: "
            "what setup puts on it would never be looked at",
            hint=f"remove {hidden} there, or set that engine up by hand",
        )
    backend = _backend(node, asked, machine)
    # Apple's wheels and builds have Metal and say so; what they lack on Linux has to be seen.
    pattern = "|".join(PREFIXES.get(backend, ()))
    if asked.archive is not None:
        return ArchivePlan(asked.archive, directory(asked.archive), pattern)
    package = PACKAGES[asked.engine]
    index = asked.index_url
    if backend not in ("cpu", "metal") and index is None:
        index = _build_for(backend, node, asked, machine)
    return PythonPlan(package, index, pattern, asked.cmake_args if package.companion else None)


def _backend(node: Node, asked: SetupRequest, machine: Machine) -> str:
    backend = asked.backend or node.backend
    if backend == "auto":
        if machine.gpus:
            return machine.gpus[0][1]
        if machine.broken:
            again = f"rbee nodes setup {quote(node.name)}"
            raise _no_build(
                node,
                f"{node.name} seems to have a GPU, and its driver does not work: {machine.broken}",
                f"repair the driver, or: {again} --backend cpu",
            )
        return "cpu"
    has = {kind for _, kind in machine.gpus}
    # Vulkan is at home on many vendors' GPUs, of which none may have tools of its own installed.
    if backend in ("cpu", *has) or (backend == "vulkan" and machine.os != "Darwin"):
        return backend
    names = ", ".join(name for name, _ in machine.gpus) or "no GPU that its drivers' tools show"
    raise BackendUnavailable(
        f"{node.name} has no device for {backend}: it has {names}",
        hint=f"rbee nodes setup {quote(node.name)} --backend cpu",
        details={"node": node.name, "backend": backend, "gpus": [name for name, _ in machine.gpus]},
    )


def _build_for(backend: str, node: Node, asked: SetupRequest, machine: Machine) -> str | None:
    """The index with the engine's build for the GPU; None where it is compiled with CMAKE_ARGS."""
    name = next((gpu for gpu, kind in machine.gpus if kind == backend), backend)
    again = f"rbee nodes setup {quote(node.name)}"
    if asked.engine == "xllamacpp":
        index = xllamacpp_index(backend, machine.rocm)
        if index is not None:
            return index
        commands = [f"{again} --index-url {url}" for url in xllamacpp_indexes(backend)]
        raise _no_build(
            node,
            f"{node.name} has {name}, and which of xllamacpp's builds for {backend} fits it cannot be told",
            "   or   ".join([*commands, f"{again} --backend cpu"]),
        )
    if asked.cmake_args:
        return None
    switches = CMAKE_ARGS.get(backend)
    compiled = f"CMAKE_ARGS={switches} {again} --engine {asked.engine}   (it is compiled there), or   "
    raise _no_build(
        node,
        f"{node.name} has {name}, and PyPI's {asked.engine} is compiled for the CPU unless told otherwise",
        (compiled if switches else "") + f"{again} --engine {asked.engine} --backend cpu",
    )


def _no_build(node: Node, message: str, hint: str) -> SetupFailed:
    return SetupFailed(message, hint=hint, details={"node": node.name, "step": "choosing a build"})


def directory(archive: Archive) -> str:
    """The name of an archive's directory on the node: readable, and two archives never share one."""
    path = urlsplit(archive.url).path if archive.url else str(archive.path)
    stem = _ENDING.sub("", PurePosixPath(path).name)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-")[:80] or "llama.cpp"
    return f"{readable}-{archive.identity[:12]}"


def matches(backends: Sequence[str], pattern: str) -> bool:
    """Whether an engine that computes on these has the device that the plan asks for."""
    return not pattern or any(pattern == "|".join(PREFIXES.get(backend, ())) for backend in backends)
