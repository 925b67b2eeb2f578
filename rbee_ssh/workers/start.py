"""Find or start the worker that a request needs: the full path through the house."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rbee_ssh import engines
from rbee_ssh.engines.base import Launch, LaunchSettings
from rbee_ssh.errors import ForwardingRefused, ModelNotFound, RbeeError, WorkerStartFailed, WorkerStartTimeout
from rbee_ssh.models import deliver, outgoing, receiver
from rbee_ssh.node.scripts import LIB, LOOK, SUPERVISE, compose, source
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote, words
from rbee_ssh.workers import eviction, failures, measured_memory, placement, records
from rbee_ssh.workers.fit import MemoryBudget
from rbee_ssh.workers.prepare import ModelOnNode, Prepared, prepare, prepare_all
from rbee_ssh.workers.ready import Stopped, wait_ready
from rbee_ssh.workers.records import Record, WorkerSnapshot, complain
from rbee_ssh.workers.stop import stop_on
from rbee_ssh.workers.types import LIVE_STATES, Worker, WorkerRequest

START = Path(__file__).with_name("start.sh")
# Between our look and our request a worker can be retired, or another one can take its room: we look again.
TRIES = 4


@dataclass(frozen=True, slots=True)
class Acquired:
    """A worker that is ready, and the connection to its node."""

    connection: Connection
    record: Record
    reused: bool


async def start_worker(pool: ConnectionPool, request: WorkerRequest) -> tuple[Worker, bool]:
    """A ready worker for the request; True when it was there before.

    Raises:
        RbeeError: whatever stands in the way, see cases in errors.py.
    """
    try:
        got = await acquire(pool, request)
    except asyncio.CancelledError:
        pool.tell_started()
        raise
    return records.worker(got.record, got.connection.name), got.reused


async def acquire(pool: ConnectionPool, request: WorkerRequest) -> Acquired:
    """As `start_worker`, with the connection."""
    for _ in range(TRIES - 1):
        got = await _acquire(pool, request)
        if got is not None:
            return got
    got = await _acquire(pool, request)
    if got is None:
        raise WorkerStartFailed(
            f"other commands started or stopped workers before this one could, {TRIES} times",
            hint="rbee workers list",
        )
    return got


async def _acquire(pool: ConnectionPool, request: WorkerRequest) -> Acquired | None:
    able = await prepare_all(pool, request)
    chosen = able[0] if len(able) == 1 else await _place(pool, able, evict=request.evict)
    if chosen.choice.warning:
        pool.reporter.warn(chosen.choice.warning)
    for problem in chosen.facts.problems:
        pool.reporter.detail(f"{chosen.request.node.name}: {problem}")
    found = None
    if chosen.model is None:
        chosen = await _elsewhere(pool, chosen)
    if chosen.same is None:  # also before a file is sent: it may be large
        chosen, found = await eviction.ensure(pool, chosen, evict=request.evict)
    model = chosen.model
    if model is None:
        brought = await _bring(pool, chosen)
        # Its header is there now, and what is free may have changed while it came.
        chosen = await prepare(pool, chosen.request, chosen.source, chosen.remote, None)
        if chosen.same is None:
            chosen, found = await eviction.ensure(pool, chosen, evict=request.evict)
        # The node may have had the same bytes in another place.
        model = chosen.model or brought
    return await _find_or_start(pool, chosen, model, found)


async def _elsewhere(pool: ConnectionPool, chosen: Prepared) -> Prepared:
    """With the model, where the node has it in another place of its store: a worker may have it, too.

    Raises:
        RbeeError: as fetch.find and receiver.find.
    """
    models_dir = chosen.request.node.models_dir
    if chosen.remote is not None and chosen.remote.files[0].sha256 is not None:
        from rbee_ssh.models.fetch import find

        if await find(chosen.connection, chosen.remote, models_dir, pool.reporter) is None:
            return chosen
        return await prepare(pool, chosen.request, None, chosen.remote, None)  # it is linked to its place now
    if chosen.source is None or chosen.request.local_bytes != chosen.source.size:
        return chosen  # of parts, each has to be looked for, and deliver_all does
    source = chosen.source
    placed = await receiver.find(chosen.connection, models_dir, source.sha256, source.size)
    if placed is None:
        return chosen
    return replace(chosen, model=ModelOnNode(placed.path, placed.size, placed.mtime, placed.size))


async def _bring(pool: ConnectionPool, chosen: Prepared) -> ModelOnNode:
    """The model to a node that has not got it.

    Raises:
        RbeeError: as pull and deliver_all.
    """
    node = chosen.request.node
    if chosen.remote is not None:
        from rbee_ssh.models.obtain import pull

        got = await pull(chosen.connection, chosen.remote, node.models_dir, pool.registry, pool.reporter)
        return ModelOnNode(got.path, got.size, got.mtime, got.size)
    if chosen.source is None:
        raise ModelNotFound(f"{chosen.request.shown} is not on {node.name}")
    path, sha256 = Path(chosen.source.stamp[0]), chosen.source.sha256
    files = await outgoing.model_files(path, pool.registry, sha256)
    try:
        placed = await deliver.deliver_all(chosen.connection, files, node.models_dir, pool.reporter)
    finally:
        for file in files:
            await file.close()
    return ModelOnNode(placed.path, placed.size, placed.mtime, chosen.model_size)


async def _place(pool: ConnectionPool, able: list[Prepared], *, evict: bool) -> Prepared:
    """The node that serves: see `placement.choose`."""
    owner = await pool.registry.off_loop(pool.registry.client_id)
    if any(one.same is not None for one in able):
        offers = [eviction.MemoryOffer()] * len(able)  # one of those it will be
    else:
        answers = await asyncio.gather(
            *(eviction.expected(pool, one) for one in able), return_exceptions=True
        )
        told = [answer for answer in answers if not isinstance(answer, BaseException)]
        for answer in answers:
            if isinstance(answer, BaseException) and (not isinstance(answer, RbeeError) or not told):
                raise answer
            if isinstance(answer, RbeeError):
                pool.reporter.detail(answer.message)
        able = [prepared for prepared, _ in told]
        offers = [eviction.offer(prepared, estimate, owner) for prepared, estimate in told]
    name = placement.choose(
        [
            placement.Candidate(
                node=one.request.node.name,
                ready=one.same is not None and one.same.state in ("idle", "busy"),
                live=one.same is not None,
                has_model=one.model is not None,
                need_bytes=offered.need,
                have_bytes=offered.have,
                room_bytes=offered.room if evict else 0,
            )
            for one, offered in zip(able, offers, strict=True)
        ]
    )
    return next(prepared for prepared in able if prepared.request.node.name == name)


async def _find_or_start(
    pool: ConnectionPool, prepared: Prepared, model: ModelOnNode, found_room: MemoryBudget | None
) -> Acquired | None:
    """One script under the node's lock decides; None when what it found was being retired, or somebody was
    faster and has taken the room."""
    wanted, connection = prepared.request, prepared.connection
    found = prepared.choice.engine
    engine = engines.by_name(found.name)
    worker_id = secrets.token_hex(6)
    look = prepared.look
    directory = f"{look.root}/workers/{worker_id}"
    socket = socket_path(look.root, look.sockets, worker_id) if wanted.node.listen == "unix" else None
    launch = engine.launch(
        LaunchSettings(
            engine_path=found.path,
            model_path=model.path,
            key_file=f"{directory}/key",
            directory=directory,
            socket=socket,
            context=wanted.context,
            parallel=wanted.parallel,
            backend=prepared.choice.backend,
            device=prepared.choice.device,
            args=wanted.args,
            alias=Path(model.path).name,
            library_path=found.library_path,
        )
    )
    timeouts = connection.timeouts
    patience = timeouts.start
    if not engine.binds_before_load:
        patience = timeouts.load + timeouts.load_per_gib * model.total / 2**30
    owner = await pool.registry.off_loop(pool.registry.client_id)
    spec = {
        "node": connection.name,
        "model": wanted.shown,
        "model_path": model.path,
        "model_bytes": model.total,
        "engine": engine.name,
        "context": wanted.context,
        "parallel": wanted.parallel,
        "backend": prepared.choice.backend,
        "device": wanted.device,
        "owner": owner,
        "created": time.time(),
        # While it loads, others leave it that much.
        "need_ram": found_room.ram if found_room else model.total * 11 // 10,
        "need_device": found_room.device if found_room else 0,
    }
    if prepared.same is None:
        pool.reporter.say(f"starting {engine.name} with {Path(model.path).name} on {connection.name}")
        if warning := eviction.beyond(prepared):
            pool.reporter.warn(warning)
    pool.started[worker_id] = connection.name  # before it is: the answer may never reach us
    seen = await _run_start(
        connection,
        [
            worker_id,
            prepared.match_of(model),
            json.dumps(spec),
            run_sh(launch, wanted.node.env, directory),
            str(int(wanted.lease)),
            engine.ready_pattern,
            "" if socket else engine.port_pattern,
            socket or "",
            "" if engine.binds_before_load else "1",
            source(LIB) + source(SUPERVISE),
            str(int(patience)),
            model.path,
            *_decided(prepared, found_room),
            *("owner", owner + "\n"),
            *(word for file in launch.files for word in file),
        ],
        patience,
    )
    if seen.crowded:
        pool.reporter.say(f"the workers of {connection.name} changed meanwhile; looking again")
    if not seen.new:
        del pool.started[worker_id]
    record = seen.records[-1] if seen.records else None
    if record is None or record.state in ("stopping", "stopped"):
        return None
    if record.state not in LIVE_STATES:
        raise failures.start_failed(record, connection.name, engine.name)
    reused = not seen.new
    listening = record.state != "starting" and (engine.binds_before_load or record.state != "loading")
    try:
        if not listening:
            raise failures.start_timeout(record, connection.name, record.id, patience, "did not answer")
        if record.state in ("starting", "loading") or not reused:
            record = await wait_ready(connection, engine, record, model.total, pool.reporter)
    except Stopped:
        pool.reporter.say(f"another command stopped worker {record.id} on {connection.name}; looking again")
        return None
    except WorkerStartTimeout:
        # Whoever started it: it did nothing while we watched, and is in the way of the next one.
        await stop_on(connection, [record.id], drain=0)
        raise
    except ForwardingRefused:
        if not reused:
            await stop_on(connection, [record.id], drain=0)  # nobody could ever reach it
        raise
    entry = records.entry(record, connection.name, (wanted.fingerprint,))
    await pool.registry.off_loop(pool.registry.put, entry)
    if not reused:
        pool.later(measured_memory.keep(pool.registry, prepared, model, record.id))
    return Acquired(connection, record, reused)


def _decided(prepared: Prepared, found: MemoryBudget | None) -> list[str]:
    """What the decision to start a worker rests on: the workers that were seen, the bytes left beside it."""
    known = " ".join(record.id for record in prepared.look.records)
    if prepared.same is not None:  # nobody asked whether there is room for another one
        return [known, "-1", "-1"]
    left = (found.ram_left, found.device_left) if found else (None, None)
    return [known, *("" if size is None else str(size) for size in left)]


async def _run_start(connection: Connection, args: list[str], patience: float) -> WorkerSnapshot:
    body = compose(LIB, LOOK, START)
    result = await script.run(connection, body, args, timeout=patience + 30)
    seen = records.parse(result.stdout.split("\n"))
    complain(connection, seen)
    return seen


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


def socket_path(root: str, sockets: str, worker_id: str) -> str:
    """Where a worker's socket goes: its directory, else the short private one the node named.

    llama-server takes a host for a UNIX socket only if it ends in ".sock".
    """
    if sockets:
        return f"{sockets}/{worker_id}.sock"
    return f"{root}/workers/{worker_id}/worker.sock"
