"""Find or start the worker that a request needs: the full path."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rbee_ssh import engines
from rbee_ssh.engines import Engine, Launch, LaunchSettings
from rbee_ssh.errors import RbeeError, WorkerStartFailed
from rbee_ssh.node.scripts import LIB, LOOK, SUPERVISE, compose, source
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote, words
from rbee_ssh.workers import eviction, records, worker_memory
from rbee_ssh.workers.fit import MemoryBudget
from rbee_ssh.workers.locate import locate
from rbee_ssh.workers.prepare import Prepared, prepare_all
from rbee_ssh.workers.ready import until_ready
from rbee_ssh.workers.records import Record, WorkerSnapshot
from rbee_ssh.workers.resolve import FilesOnNode, ResolvedRequest, match, resolve_all
from rbee_ssh.workers.types import ServingWorker, Worker, WorkerRequest

START = Path(__file__).with_name("start.sh")
# Between our look and our request a worker can be retired, or another one can take its memory: we look again.
TRIES = 4

place_log = logging.getLogger("rbee.place")
log = logging.getLogger("rbee.worker")


@dataclass(frozen=True, slots=True)
class StartedWorker(ServingWorker):
    """A worker that is ready, as its node has just told."""

    record: Record


async def start_worker(pool: ConnectionPool, request: WorkerRequest) -> tuple[Worker, bool]:
    """A ready worker for the request; True when it was there before.

    Raises:
        RbeeError: whatever stands in the way, see cases in errors.py.
    """
    try:
        started = await acquire(pool, resolve_all(request, pool.inventory))
    except asyncio.CancelledError:
        pool.tell_started()
        raise
    return records.worker(started.record, started.connection.name), started.reused


async def acquire(pool: ConnectionPool, requests: Sequence[ResolvedRequest]) -> StartedWorker:
    """A ready worker for the request, on one of the nodes that it was resolved for.

    Raises:
        RbeeError: as `start_worker`.
    """
    requests = await locate(pool, requests)
    for _ in range(TRIES):
        if (started := await _acquire(pool, requests)) is not None:
            return started
    raise WorkerStartFailed(
        f"other commands started or stopped workers before this one could, {TRIES} times",
        hint="rbee workers list",
    )


async def _acquire(pool: ConnectionPool, requests: Sequence[ResolvedRequest]) -> StartedWorker | None:
    """None when others have changed the node meanwhile."""
    prepared = await _place(pool, requests)
    engine = prepared.choice.engine
    place_log.info(
        "%s: %s %s at %s, computing on %s; worker that serves this: %s",
        prepared.connection.name,
        engine.name,
        engine.version,
        engine.path,
        prepared.choice.backend,
        prepared.same.id if prepared.same else None,
    )
    if prepared.choice.warning:
        pool.reporter.warn(prepared.choice.warning)
    for problem in prepared.facts.problems:
        pool.reporter.detail(f"{prepared.request.node.name}: {problem}")
    if prepared.model.files is None:
        from rbee_ssh.workers.bring import find_elsewhere

        prepared = await find_elsewhere(pool, prepared)
    prepared, budget = await eviction.ensure(pool, prepared)  # also before a file is sent: it may be large
    if (files := prepared.model.files) is None:
        from rbee_ssh.workers.bring import bring

        prepared, files = await bring(pool, prepared)
        prepared, budget = await eviction.ensure(pool, prepared)
    return await _find_or_start(pool, prepared, files, budget)


async def _place(pool: ConnectionPool, requests: Sequence[ResolvedRequest]) -> Prepared:
    """The node that serves, of those that can.

    Raises:
        RbeeError: of the first node, if none can.
    """
    answers = await prepare_all(pool, requests)
    able = [answer for answer in answers if isinstance(answer, Prepared)]
    refused = [answer for answer in answers if isinstance(answer, RbeeError)]
    for error in refused if able else refused[1:]:
        (pool.reporter.detail if able else pool.reporter.warn)(error.message)
    if not able:
        raise refused[0]
    if len(able) == 1:
        return able[0]
    from rbee_ssh.workers.placement import place

    return await place(pool, able)


async def _find_or_start(
    pool: ConnectionPool, prepared: Prepared, files: FilesOnNode, budget: MemoryBudget | None
) -> StartedWorker | None:
    """One script under the node's lock decides; None when what it found was being retired, or somebody was
    faster and has taken the memory."""
    connection = prepared.connection
    owner = await pool.registry.off_loop(pool.registry.client_id)
    new = _new_worker(prepared, files, budget, owner)
    if prepared.same is None:
        pool.reporter.say(
            f"starting {new.engine.name} with {PurePosixPath(files.path).name} on {connection.name}"
        )
        if warning := worker_memory.beyond(prepared):
            pool.reporter.warn(warning)
    pool.started[new.id] = connection.name  # before it is: the answer may never reach us
    snapshot = await _run_start(connection, new)
    if snapshot.crowded:
        pool.reporter.say(f"the workers of {connection.name} changed meanwhile; looking again")
    if not snapshot.new:
        del pool.started[new.id]
    record = snapshot.records[-1] if snapshot.records else None
    log.info(
        "%s of %s: %s",
        connection.name,
        new.id,
        f"worker {record.id} is {record.state}, started by this: {snapshot.new}" if record else "no worker",
    )
    if record is not None:
        record = await until_ready(
            pool, connection, new.engine, record, files.total, new.patience, new=bool(snapshot.new)
        )
    if record is None:
        return None
    entry = records.entry(record, connection.name, (prepared.request.fingerprint,))
    await pool.registry.off_loop(pool.registry.put, entry)
    if snapshot.new:
        pool.later(worker_memory.keep(pool.registry, prepared, record.id))
    return StartedWorker(connection, entry, not snapshot.new, record)


@dataclass(frozen=True, slots=True)
class NewWorker:
    """A worker to be started, unless there is one like it.

    `values` and `files` go to start.sh: its settings by name, and name and text of files for the worker's
    directory. `patience`: seconds until it listens.
    """

    id: str
    engine: Engine
    patience: float
    values: Mapping[str, str]
    files: tuple[tuple[str, str], ...]


def _new_worker(prepared: Prepared, files: FilesOnNode, budget: MemoryBudget | None, owner: str) -> NewWorker:
    """The worker for a request, under a new id.

    Raises:
        UsageInvalid: an argument of the preset that the engine cannot take.
    """
    request, timeouts = prepared.request, prepared.connection.timeouts
    engine = engines.by_name(prepared.choice.engine.name)
    worker_id = secrets.token_hex(6)
    directory = f"{prepared.snapshot.root}/workers/{worker_id}"
    socket = ""
    if request.node.listen == "unix":
        socket = socket_path(prepared.snapshot.sockets, worker_id)
    launch = _launch(prepared, files, engine, directory, socket)
    patience = timeouts.start
    if not engine.binds_before_load:
        patience = timeouts.load + timeouts.load_per_gib * files.total / 2**30
    return NewWorker(
        id=worker_id,
        engine=engine,
        patience=patience,
        values={
            "id": worker_id,
            "match": match(request, prepared.choice.engine, prepared.choice.backend, files),
            "spec": json.dumps(_spec(prepared, files, budget, owner)),
            "run": run_sh(launch, request.node.env, directory),
            "supervise": source(LIB) + source(SUPERVISE),
            "lease": str(int(request.lease)),
            "ready-pattern": engine.ready_pattern,
            "port-pattern": "" if socket else engine.port_pattern,
            "socket": socket,
            "late": "" if engine.binds_before_load else "1",
            "patience": str(int(patience)),
            "model": files.path,
            **_memory_seen(prepared, budget),
        },
        files=(("owner", owner + "\n"), *launch.files),
    )


def _launch(prepared: Prepared, files: FilesOnNode, engine: Engine, directory: str, socket: str) -> Launch:
    request, choice = prepared.request, prepared.choice
    return engine.launch(
        LaunchSettings(
            engine_path=choice.engine.path,
            model_path=files.path,
            key_file=f"{directory}/key",
            directory=directory,
            socket=socket or None,
            context=request.context,
            parallel=request.parallel,
            backend=choice.backend,
            device=choice.device,
            args=request.args,
            alias=records.alias_of(files.path),
            library_path=choice.engine.library_path,
        )
    )


def _spec(prepared: Prepared, files: FilesOnNode, budget: MemoryBudget | None, owner: str) -> dict[str, Any]:
    """What the node keeps of the worker, for all who ask."""
    request = prepared.request
    return {
        "node": prepared.connection.name,
        "model": prepared.model.name,
        "model_path": files.path,
        "model_bytes": files.total,
        "engine": prepared.choice.engine.name,
        "context": request.context,
        "parallel": request.parallel,
        "backend": prepared.choice.backend,
        "device": request.device,
        "owner": owner,
        "created": time.time(),
        # While it loads, others leave it that much.
        "need_ram": budget.ram if budget else files.total * 11 // 10,
        "need_device": budget.device if budget else 0,
    }


def _memory_seen(prepared: Prepared, budget: MemoryBudget | None) -> dict[str, str]:
    """What the decision to start a worker rests on: the workers that were seen, the bytes left beside it."""
    left: tuple[int | None, int | None] = (None, None)
    if prepared.same is not None:
        left = (-1, -1)  # nobody asked whether there is memory for another one
    elif budget is not None:
        left = (budget.ram_left, budget.device_left)
    ram, device = ("" if size is None else str(size) for size in left)
    seen = " ".join(record.id for record in prepared.snapshot.records)
    return {"seen": seen, "ram-left": ram, "device-left": device}


async def _run_start(connection: Connection, new: NewWorker) -> WorkerSnapshot:
    args = [f"{name}={value}" for name, value in new.values.items()]
    args += ["--", *(word for file in new.files for word in file)]
    return await records.run(connection, compose(LIB, LOOK, START), args, timeout=new.patience + 30)


def run_sh(launch: Launch, node_env: Iterable[tuple[str, str]], directory: str) -> str:
    """The script that becomes the engine.

    What the engine needs is set over the user's env; the API key is read from its file into the one variable
    that wants it, after both. Nothing secret stands in this text.
    """
    lines = ["#!/bin/sh", "umask 077", f"cd {quote(directory)} || exit 1", "export RBEE_WORKER"]
    lines += [f"export {name}={quote(value)}" for name, value in (*node_env, *launch.env)]
    if launch.key_env is not None:
        lines += [f"IFS= read -r {launch.key_env} <key", f"export {launch.key_env}"]
    lines.append(f"exec {words(launch.argv)}")
    return "\n".join(lines) + "\n"


def socket_path(sockets: str, worker_id: str) -> str:
    """Where a worker's socket goes: the private directory that the node named, else one of its own in /tmp.

    Nobody can take that name before: an id is random. llama-server takes a host for a UNIX socket only if it
    ends in ".sock".
    """
    return f"{sockets or f'/tmp/rbee.{worker_id}'}/{worker_id}.sock"  # noqa: S108  # made, checked: start.sh
