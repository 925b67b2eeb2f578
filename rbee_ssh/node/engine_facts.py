"""Engines and Pythons out of the lines of engines.sh."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rbee_ssh.engines import NAMES, EngineFound
from rbee_ssh.engines.devices import PREFIXES, backend_of
from rbee_ssh.node.untrusted_text import clean, integer

# "  CUDA0: NVIDIA GeForce RTX 3090 (24149 MiB, 23888 MiB free)"
_DEVICE = re.compile(
    r"\s*([A-Za-z][^\s:]*(?:\[[^\]]*\])?): .*\(([0-9]{1,9}) MiB, ([0-9]{1,9}) MiB free\)\s*$"
)
MIB = 2**20
_LIBRARIES = {"cuda": "cuda", "hip": "rocm", "vulkan": "vulkan", "metal": "metal"}


@dataclass(frozen=True, slots=True)
class PythonFound:
    """A Python on the node. `venv` says whether it can make environments (Debian leaves ensurepip out)."""

    path: str
    version: str
    venv: bool


@dataclass(slots=True)
class _Block:
    """A line that opens a program's part, and what the program printed."""

    kind: str
    fields: Sequence[str]
    output: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    listed: int | None = None  # exit status of --list-devices


def parse(records: Iterable[Sequence[str]]) -> tuple[tuple[EngineFound, ...], PythonFound | None, list[str]]:
    """Engines in the order of "auto", the first Python that runs, and problems worth telling."""
    engines: list[EngineFound] = []
    python: PythonFound | None = None
    problems: list[str] = []
    for block in _blocks(records):
        if block.kind == "engine":
            engines.append(_binary(block))
            continue
        path, status = block.fields[0], integer(block.fields[1])
        values = _values(block.output)
        if status != 0 and "version" not in values:
            problems.append(f"{path} does not run: {_why(status, block.output)}")
            continue
        version = clean(values.get("version", ["?"])[0], 40)
        python = python or PythonFound(path, version, values.get("venv") == ["yes"])
        engines += _packages(path, status, values, block.output)
    engines.sort(key=lambda engine: NAMES.index(engine.name))
    return tuple(engines), python, problems


def _blocks(records: Iterable[Sequence[str]]) -> list[_Block]:
    blocks: list[_Block] = []
    for key, *fields in records:
        text = fields[0] if fields else ""
        if (key == "engine" and len(fields) >= 4 and text == "llama-server") or (
            key == "python" and len(fields) >= 2
        ):
            blocks.append(_Block(key, fields))
        elif not blocks:
            continue
        elif key in ("engine_out", "python_out"):
            blocks[-1].output.append(text)
        elif key == "engine_devices":
            blocks[-1].listed = integer(text)
        elif key == "engine_device":
            blocks[-1].devices.append(text)
    return blocks


def _binary(block: _Block) -> EngineFound:
    name, path, library_path, status = *block.fields[:3], integer(block.fields[3])
    if status != 0:
        return EngineFound(name, path, "", _why(status, block.output), library_path=library_path or None)
    versions = (re.match(r"version:\s*(.{1,80})", line) for line in block.output)
    version = next((match[1] for match in versions if match), "?")
    memory = tuple(
        (match[1], int(match[2]) * MIB, int(match[3]) * MIB)
        for match in map(_DEVICE.match, block.devices)
        if match
    )
    devices = tuple(name for name, _, _ in memory)
    complete = block.listed == 0 and any("Available devices" in line for line in block.devices)
    return EngineFound(
        name,
        path,
        clean(version, 80),
        backends=_backends(devices) if complete else (),
        devices=devices,
        library_path=library_path or None,
        memory=memory,
    )


def _packages(
    path: str, status: int | None, values: dict[str, list[str]], output: list[str]
) -> Iterable[EngineFound]:
    if version := values.get("xllamacpp"):
        imports, devices = values.get("xllamacpp_imports", []), tuple(values.get("xllamacpp_device", ()))
        broken = bool(imports) and "done" not in imports
        yield EngineFound(
            "xllamacpp",
            path,
            clean(version[0], 80),
            problem=f"it cannot be imported: {_why(status, output)}" if broken else None,
            backends=_backends(devices) if "done" in imports else (),
            devices=tuple(device for device in devices if device != "CPU"),
            memory=tuple(_memory(values.get("xllamacpp_memory", ()))),
        )
    if version := values.get("llama_cpp_python"):
        lacks = ", ".join(values.get("server_lacks", [""])[0].split())
        libraries = " ".join(values.get("library", ()))
        backends = tuple(name for part, name in _LIBRARIES.items() if f"ggml-{part}" in libraries)
        yield EngineFound(
            "llama-cpp-python",
            path,
            clean(version[0], 80),
            problem=f"its server needs {lacks} (llama-cpp-python[server])" if lacks else None,
            backends=("cpu", *backends) if libraries else (),
        )


def _memory(lines: Iterable[str]) -> Iterable[tuple[str, int, int]]:
    for line in lines:
        name, total, free = (*line.rsplit(" ", 2), "", "")[:3]
        if name != "CPU" and (total_bytes := integer(total)) and (free_bytes := integer(free)) is not None:
            yield name, total_bytes, free_bytes


def _backends(devices: Iterable[str]) -> tuple[str, ...]:
    present = {backend_of(device) for device in devices}
    return ("cpu", *(backend for backend in PREFIXES if backend in present))


def _values(output: Iterable[str]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in output:
        key, equals, value = line.partition("=")
        if equals:
            values.setdefault(key, []).append(value)
    return values


def _why(status: int | None, output: Sequence[str]) -> str:
    """The exit status in words, and the program's or the loader's own line."""
    ours = {124: "it did not answer in time", 125: "it could not be tried without a temporary directory"}
    words = "its exit status did not come back"
    if status is not None:
        from rbee_ssh.engines.exit_status import in_words

        words = ours.get(status) or in_words(status)
    lines = [clean(line) for line in output if clean(line) and not re.match(r"\w+=", line)]
    telling = re.compile(r"error|cannot|not found|built for|not a program|symbol|GLIBC", re.IGNORECASE)
    line = next(filter(telling.search, lines), lines[-1] if lines else "")
    return f"{words}: {line}" if line else words
