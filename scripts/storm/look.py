"""What is on a node, seen from beside: files and processes as the host finds them, not through rbee."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodekit import LabNode

DISK = "models"  # of each node, small: see LabNode's `disks`
MODELS = f"/run/{DISK}"


@dataclass(frozen=True, slots=True)
class Worker:
    """A directory of a worker. `match` is None while it is made, or after a start that was cut short."""

    id: str
    match: str | None
    supervised: bool
    engine: bool  # whether the engine that it names runs
    stopping: bool
    ended: bool  # `exit` is written
    boot: str


@dataclass(frozen=True, slots=True)
class Process:
    """One of the node's user. `key` is the same for no other process of this boot."""

    key: str
    worker: str | None  # RBEE_WORKER in its environment
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key} {' '.join(self.argv)[:200]}"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a node. Paths are the node's."""

    workers: tuple[Worker, ...] = ()
    processes: tuple[Process, ...] = ()
    lock: str | None = None  # who holds it
    files: tuple[str, ...] = ()  # of rbee, but for what is in a directory of a worker
    models: tuple[tuple[str, str], ...] = ()  # path and SHA-256 of whatever is called a model


def look(node: LabNode) -> Look:
    """Ask nobody; a process or a file that goes meanwhile is left out."""
    state = node.outside(".local/state/rbee")
    workers = tuple(_worker(node, one) for one in sorted(state.glob("*/workers/*")))
    files = [path for path in _files(state) if path.parts[len(state.parts) + 1] != "workers"]
    return Look(
        workers,
        tuple(_processes(node)),
        _holder(files),
        tuple(
            [f"~/.local/state/rbee/{path.relative_to(state)}" for path in files]
            + [f"/tmp/{path.relative_to(node.outside('/tmp'))}" for path in _files(node.outside("/tmp"))]
            + [f"{MODELS}/{path.relative_to(node.outside(MODELS))}" for path in _files(node.outside(MODELS))]
        ),
        tuple(_models(node)),
    )


def _files(top: Path) -> list[Path]:
    """Everything below it that is no directory: links and sockets too."""
    return sorted(Path(place, name) for place, _, names in os.walk(top) for name in names)


def _holder(files: list[Path]) -> str | None:
    for path in files:
        if path.name == "lock":
            with suppress(OSError):  # released meanwhile
                return os.readlink(path)
    return None


def _models(node: LabNode) -> Iterator[tuple[str, str]]:
    top = node.outside(MODELS)
    for path in _files(top):
        if path.suffix == ".gguf":
            with suppress(OSError):
                yield f"{MODELS}/{path.relative_to(top)}", hashlib.sha256(path.read_bytes()).hexdigest()


def _worker(node: LabNode, directory: Path) -> Worker:
    return Worker(
        id=directory.name,
        match=_line(directory / "match"),
        supervised=_runs(node, _line(directory / "supervisor")),
        engine=_runs(node, _line(directory / "pid")),
        stopping=(directory / "stopping").exists(),
        ended=(directory / "exit").exists(),
        boot=_line(directory / "boot") or "",
    )


def _line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").split("\n")[0]
    except OSError:
        return None


def _runs(node: LabNode, name: str | None) -> bool:
    """Whether "PID STARTED" runs, on this boot of the node."""
    pid, _, started = (name or "").partition(" ")
    return pid.isdigit() and _started(node, int(pid)) == started


def _started(node: LabNode, pid: int) -> str | None:
    """None for one that is gone; a zombie is gone."""
    text = _line(node.outside(f"/proc/{pid}/stat"))
    fields = (text or "").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None


def _processes(node: LabNode) -> Iterator[Process]:
    for process in node.processes():
        started = _started(node, process.pid)
        if started is None:
            continue
        worker = None
        with suppress(OSError):
            for word in node.outside(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                if word.startswith(b"RBEE_WORKER="):
                    worker = word.partition(b"=")[2].decode(errors="replace")
        yield Process(f"{process.pid} {started}", worker, process.argv)
