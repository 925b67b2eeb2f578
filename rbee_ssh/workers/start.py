"""Find or start the worker that a request needs: the full path through the house."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh import engines
from rbee_ssh.engines.base import LaunchSettings
from rbee_ssh.errors import ForwardingRefused, ModelNotFound, WorkerStartFailed, WorkerStartTimeout
from rbee_ssh.models import deliver, outgoing
from rbee_ssh.node.scripts import LIB, LOOK, SUPERVISE, compose, source
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.workers import failure, measure, placement, records, room
from rbee_ssh.workers.fit import Room
from rbee_ssh.workers.fleet import Fleet
from rbee_ssh.workers.launch import run_sh, socket_path
from rbee_ssh.workers.look import complain
from rbee_ssh.workers.prepare import ModelOnNode, Prepared, prepare, prepare_all
from rbee_ssh.workers.ready import wait_ready
from rbee_ssh.workers.records import Look, Record
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


async def start_worker(fleet: Fleet, request: WorkerRequest) -> tuple[Worker, bool]:
    """A ready worker for the request; True when it was there before.

    Raises:
        RbeeError: whatever stands in the way, see cases in errors.py.
    """
    got = await acquire(fleet, request)
    return records.worker(got.record, got.connection.name), got.reused


async def acquire(fleet: Fleet, request: WorkerRequest) -> Acquired:
    """As `start_worker`, with the connection."""
    for _ in range(TRIES - 1):
        got = await _acquire(fleet, request)
        if got is not None:
            return got
    got = await _acquire(fleet, request)
    if got is None:
        raise WorkerStartFailed(
            f"other commands started or stopped workers before this one could, {TRIES} times",
            hint="rbee workers list",
        )
    return got


async def _acquire(fleet: Fleet, request: WorkerRequest) -> Acquired | None:
    able = await prepare_all(fleet, request)
    chosen = able[0] if len(able) == 1 else await _place(fleet, able, evict=request.evict)
    if chosen.choice.warning:
        fleet.story.warn(chosen.choice.warning)
    for problem in chosen.facts.problems:
        fleet.story.detail(f"{chosen.wish.node.name}: {problem}")
    found = None
    if chosen.same is None:  # also before a file is sent: it may be large
        chosen, found = await room.ensure(fleet, chosen, evict=request.evict)
    model = chosen.model
    if model is None and chosen.remote is not None:
        from rbee_ssh.models.pull import pull

        node = chosen.wish.node
        got = await pull(chosen.connection, chosen.remote, node.models_dir, fleet.registry, fleet.story)
        model = ModelOnNode(got.path, got.size, got.mtime)
        # Its header is there now, and what is free may have changed while it came.
        chosen = await prepare(fleet, chosen.wish, None, chosen.remote, None)
        if chosen.same is None:
            chosen, found = await room.ensure(fleet, chosen, evict=request.evict)
    elif model is None:
        if chosen.source is None:
            raise ModelNotFound(f"{chosen.wish.shown} is not on {chosen.wish.node.name}")
        path, sha256 = Path(chosen.source.stamp[0]), chosen.source.sha256
        files = outgoing.model_files(path, fleet.registry, sha256)
        placed = await deliver.deliver_all(chosen.connection, files, chosen.wish.node.models_dir, fleet.story)
        model = ModelOnNode(placed.path, placed.size, placed.mtime)
    return await _find_or_start(fleet, chosen, model, found)


async def _place(fleet: Fleet, able: list[Prepared], *, evict: bool) -> Prepared:
    """The node that serves: see `placement.choose`."""
    owner = fleet.registry.client_id()
    if any(one.same is not None for one in able):
        offers = [room.Offer()] * len(able)  # one of those it will be
    else:
        offers = [room.offer(*await room.expected(fleet, one), owner) for one in able]
    name = placement.choose(
        [
            placement.Candidate(
                node=one.wish.node.name,
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
    return next(prepared for prepared in able if prepared.wish.node.name == name)


async def _find_or_start(
    fleet: Fleet, prepared: Prepared, model: ModelOnNode, found_room: Room | None
) -> Acquired | None:
    """One script under the node's lock decides; None when what it found was being retired, or somebody was
    faster and has taken the room."""
    wanted, connection = prepared.wish, prepared.connection
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
        patience = timeouts.load + timeouts.load_per_gib * model.size / 2**30
    owner = fleet.registry.client_id()
    spec = {
        "node": connection.name,
        "model": wanted.shown,
        "model_path": model.path,
        "model_bytes": model.size,
        "engine": engine.name,
        "context": wanted.context,
        "parallel": wanted.parallel,
        "backend": prepared.choice.backend,
        "device": wanted.device,
        "owner": owner,
        "created": time.time(),
        # While it loads, others leave it that much.
        "need_ram": found_room.ram if found_room else model.size * 11 // 10,
        "need_device": found_room.device if found_room else 0,
    }
    if prepared.same is None:
        fleet.story.say(f"starting {engine.name} with {Path(model.path).name} on {connection.name}")
        if warning := room.beyond(prepared):
            fleet.story.warn(warning)
    fleet.started[worker_id] = connection.name  # before it is: the answer may never reach us
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
        fleet.story.say(f"the workers of {connection.name} changed meanwhile; looking again")
    if not seen.new:
        del fleet.started[worker_id]
    record = seen.records[-1] if seen.records else None
    if record is None or record.state in ("stopping", "stopped"):
        return None
    if record.state not in LIVE_STATES:
        raise failure.start_failed(record, connection.name, engine.name)
    reused = not seen.new
    listening = record.state != "starting" and (engine.binds_before_load or record.state != "loading")
    try:
        if not listening:
            raise failure.start_timeout(record, connection.name, record.id, patience, "did not answer")
        if record.state in ("starting", "loading") or not reused:
            record = await wait_ready(connection, engine, record, model.size, fleet.story)
    except WorkerStartTimeout:
        # Whoever started it: it did nothing while we watched, and is in the way of the next one.
        await stop_on(connection, [record.id], drain=0)
        raise
    except ForwardingRefused:
        if not reused:
            await stop_on(connection, [record.id], drain=0)  # nobody could ever reach it
        raise
    fleet.registry.put(records.entry(record, connection.name, (wanted.fingerprint,)))
    if not reused:
        fleet.later(measure.keep(fleet.registry, prepared, model, record.id))
    return Acquired(connection, record, reused)


def _decided(prepared: Prepared, found: Room | None) -> list[str]:
    """What the decision to start a worker rests on: the workers that were seen, the bytes left beside it."""
    known = " ".join(record.id for record in prepared.look.records)
    if prepared.same is not None:  # nobody asked whether there is room for another one
        return [known, "-1", "-1"]
    left = (found.ram_left, found.device_left) if found else (None, None)
    return [known, *("" if size is None else str(size) for size in left)]


async def _run_start(connection: Connection, args: list[str], patience: float) -> Look:
    body = compose(LIB, LOOK, START)
    result = await script.run(connection, body, args, timeout=patience + 30)
    seen = records.parse(result.stdout.split("\n"))
    complain(connection, seen)
    return seen
