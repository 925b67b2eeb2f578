"""A node's workers as it tells of them (node/snapshot.sh), as values. All of it is data from a stranger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.node.untrusted_text import plain
from rbee_ssh.registry import WorkerEntry
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers.types import LIVE_STATES, STATES, Worker

# More than a node can run; one that tells of more is broken or hostile, and all of them would be remembered.
MAX_WORKERS = 1000
_LONGEST = 64 * 1024  # characters of one value

STOP = Path(__file__).with_name("stop.sh")
LOOK_BODY = compose(LIB, LOOK, then="rbee_init && rbee_sweep && rbee_show_all")


@dataclass(frozen=True, slots=True)
class Record:
    """A worker as its node has it. `values`: the lines of snapshot.sh; `log`: the last of one that ended."""

    id: str
    values: dict[str, str] = field(repr=False)  # the API key is among them
    log: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        state = self.values.get("state", "dead")
        return state if state in STATES else "dead"

    @property
    def spec(self) -> dict[str, Any]:
        """What the one who started it wrote down: node, model, engine, owner, created, …"""
        try:
            spec = json.loads(self.values.get("spec.json", "{}"))
        except (ValueError, RecursionError):
            return {}
        return spec if isinstance(spec, dict) else {}

    def number(self, key: str) -> int | None:
        value = self.values.get(key, "").split(" ")[0]
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None

    def text(self, key: str) -> str:
        return self.values.get(key, "")

    @property
    def key(self) -> str:
        """The API key as start.sh makes them, empty when the node has none or something else."""
        key = self.text("key")
        return key if 16 <= len(key) <= 128 and all(c in "0123456789abcdef" for c in key) else ""

    @property
    def port(self) -> int | None:
        """The port it listens on, where it has no socket."""
        port = self.number("port")
        return port if port is not None and 0 < port < 65536 else None

    @property
    def created(self) -> float | None:
        """When it was started, a Unix time."""
        created = self.spec.get("created")
        if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < 1e11:
            return None
        return float(created)

    def spec_text(self, key: str) -> str:
        """A text of the spec, empty when it is missing or something else."""
        value = self.spec.get(key)
        return value if isinstance(value, str) else ""

    def spec_number(self, key: str) -> int:
        """A number of the spec, 0 when it is missing or something else."""
        value = self.spec.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**60 else 0

    @property
    def memory(self) -> tuple[int, int, int]:
        """Bytes of its process group: its own, those of mapped files, and the most that both were."""
        fields = (*self.text("memory").split(" "), "", "")
        own, files, peak = (
            int(f) * 1024 if f.isascii() and f.isdigit() and len(f) < 15 else 0 for f in fields[:3]
        )
        return own, files, peak


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """Everything that a script told: the workers, where new ones go, and what came of it."""

    records: tuple[Record, ...] = ()
    root: str = ""
    sockets: str = ""
    boot_id: str = ""
    problem: str = ""
    locked_by: str = ""
    new: bool | None = None
    crowded: bool = False
    results: tuple[tuple[str, str, str], ...] = field(default=())  # (word, id, why) of stop and cleanup

    def record(self, worker_id: str) -> Record | None:
        """The newest word on a worker: a script may show it more than once."""
        return next((record for record in reversed(self.records) if record.id == worker_id), None)


_TOP = {"root": "root", "sockets": "sockets", "boot-id": "boot_id", "problem": "problem"}
_RESULTS = frozenset({"stopped", "forced", "kept", "pruned", "unknown", "alive"})


def parse(lines: Iterable[str]) -> WorkerSnapshot:
    """Read snapshot.sh's output. Lines that are not of its form are skipped."""
    top: dict[str, Any] = {}
    records: list[Record] = []
    results: list[tuple[str, str, str]] = []
    current: dict[str, str] | None = None
    name = ""
    log: list[str] = []
    for line in lines:
        key, tab, value = line.partition("\t")
        if not tab:
            continue
        value = value if key in _RESULTS else plain(value, _LONGEST)
        if key == "worker":
            current, name, log = {}, value, []
        elif current is not None:
            if key == "end":
                if is_id(name) and len(records) < MAX_WORKERS:
                    records.append(Record(name, current, tuple(log)))
                current = None
            elif key == "log":
                log.append(value)
            else:
                current[key] = value
        elif key in _TOP:
            top[_TOP[key]] = value
        elif key == "locked":
            top["locked_by"] = value or "?"
        elif key == "new":
            top["new"] = value == "1"
        elif key == "crowded":
            top["crowded"] = True
        elif key in _RESULTS:
            worker, _, why = value.partition("\t")
            if is_id(worker) and len(results) < MAX_WORKERS:
                results.append((key, worker, plain(why, _LONGEST)))
    return WorkerSnapshot(records=tuple(records), results=tuple(results), **top)


def is_id(text: str) -> bool:
    """Whether this is the id of a worker: what we make, and nothing that could be a path."""
    return 0 < len(text) <= 32 and all(c in "0123456789abcdef" for c in text)


def worker(record: Record, node: str) -> Worker:
    """The record as `workers list` shows it."""
    socket, port = record.text("socket"), record.port
    tcp = f"tcp:127.0.0.1:{port}" if port else ""
    idle, lease = record.number("idle"), record.number("lease")
    return Worker(
        id=record.id,
        node=node,
        model=record.spec_text("model"),
        engine=record.spec_text("engine"),
        state=record.state,
        endpoint=f"unix:{socket}" if socket else tcp,
        pid=record.number("pid"),
        started_at=record.created,
        idle_seconds=None if idle is None else idle * 5,
        lease_seconds=lease if lease is not None else 3600,
        log=record.text("directory") + "/log",
        owner=record.spec_text("owner"),
        match=record.text("match"),
        exit_status=record.number("exit"),
        problem="\n".join(record.log) or None,
        context=record.spec_number("context") or None,
        parallel=record.spec_number("parallel") or 1,
        memory=sum(record.memory[:2]) or None,
        device_memory=(record.spec_number("need_device") or None) if record.state in LIVE_STATES else None,
    )


def entry(record: Record, node: str, requests: tuple[str, ...] = ()) -> WorkerEntry:
    """The record as the registry remembers it."""
    context, parallel = record.spec.get("context"), record.spec.get("parallel")
    return WorkerEntry(
        id=record.id,
        node=node,
        owner=record.spec_text("owner"),
        match=record.text("match"),
        requests=requests,
        model=record.spec_text("model"),
        engine=record.spec_text("engine"),
        socket=record.text("socket") or None,
        port=record.port,
        private=record.text("private") == "1",
        api_key=record.key,
        pid=record.number("pid"),
        started=record.text("pid").partition(" ")[2],
        boot_id=record.text("boot"),
        directory=record.text("directory"),
        state=record.state,
        lease=float(record.number("lease") or 0),
        alias=alias_of(record.spec_text("model_path")),
        context=context if isinstance(context, int) else None,
        parallel=parallel if isinstance(parallel, int) else 1,
        created=record.created or 0.0,
    )


def alias_of(model_path: str) -> str:
    """What an engine is told to call its model: the file's name. A comma would make several names of it."""
    return PurePosixPath(model_path).name.replace(",", "_")


async def run(
    connection: Connection,
    body: str,
    args: Sequence[str] = (),
    *,
    timeout: float = 30.0,
    silence: float | None = None,
) -> WorkerSnapshot:
    """What a script tells of the node's workers. Arguments as of `script.run`.

    Raises:
        NodeFault: the connection or its shell.
        ShellUnusable, NodeLocked: as `complain`.
    """
    result = await script.run(connection, body, args, timeout=timeout, silence=silence)
    snapshot = parse(result.stdout.split("\n"))
    complain(connection, snapshot)
    return snapshot


async def look(connection: Connection) -> WorkerSnapshot:
    """The workers of a node, now. Raises as `run`."""
    return await run(connection, LOOK_BODY)


def complain(connection: Connection, snapshot: WorkerSnapshot) -> None:
    """Raise what the script said stood in its way.

    Raises:
        ShellUnusable: no place for a state directory.
        NodeLocked: another command holds the node's lock, for more than 10 s.
    """
    if not snapshot.problem and not snapshot.locked_by:
        return
    from rbee_ssh.node import script_errors

    if snapshot.problem:
        raise script_errors.unwritable(connection.name, snapshot.problem)
    raise script_errors.locked(connection.name, snapshot.locked_by)


async def remember(pool: ConnectionPool, node: str, snapshot: WorkerSnapshot) -> None:
    """Put what the node told into the registry: the node is the truth."""
    entries = [entry(record, node) for record in snapshot.records]
    await pool.registry.off_loop(pool.registry.sync_node, node, entries)


async def record_of(connection: Connection, worker_id: str) -> Record | None:
    """A single worker's record, None when the node has none of that id."""
    return (await look(connection)).record(worker_id)


def moved(before: Record, after: Record, *, seconds: float, share: float) -> bool:
    """Whether it computed, wrote into its log, or filled memory.

    Args:
        seconds: between the two looks. Its supervisor counts CPU time every 5 s: less shows nothing.
        share: of one CPU, which it takes though it gets nowhere: to answer whether it is ready, say.
    """
    spent = (after.number("cpu") or 0) - (before.number("cpu") or 0)  # hundredths of a second
    return (
        spent > share * seconds * 100
        or after.text("log-size") != before.text("log-size")
        or sum(after.memory[:2]) - sum(before.memory[:2]) >= 2**20
    )
