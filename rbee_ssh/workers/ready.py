"""Waiting for a started worker until it has loaded its model."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from rbee_ssh.engines import Engine, Readiness
from rbee_ssh.errors import ForwardingRefused, ResponseInvalid, WorkerStartTimeout
from rbee_ssh.ssh import http
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.workers import records
from rbee_ssh.workers.records import Record, moved, record_of
from rbee_ssh.workers.types import LIVE_STATES, ServingWorker

if TYPE_CHECKING:
    from rbee_ssh.reporter import Reporter
    from rbee_ssh.ssh.pool import ConnectionPool

# How often an answer is looked for: after a tenth of the time that was waited, so that a small model, which
# loads in a fraction of a second, is not kept waiting.
SHORTEST_WAIT = 0.02
LONGEST_WAIT = 0.5
# Of one CPU, what an engine may take to say that it is not ready: measured 0.07 % at four questions a second.
ANSWERING = 0.003
# How often the node is asked by script whether the engine lives and moves.
BEAT = 5.0

log = logging.getLogger("rbee.worker")


class Stopped(Exception):
    """Another command stopped the worker while it loaded. Not for the user."""


async def until_ready(
    pool: ConnectionPool,
    connection: Connection,
    engine: Engine,
    record: Record,
    model_bytes: int,
    patience: float,
    *,
    new: bool,
) -> Record | None:
    """Wait until a worker that start.sh found or started has loaded its model; None when others stop it.

    A worker that nobody could use is stopped: one that makes no progress whoever started it, since it is in
    the way of the next one; one that cannot be reached only if it is new.

    Args:
        patience: seconds that start.sh waited for it to listen.

    Raises:
        RbeeError: as `wait_ready`.
    """
    if record.state in ("stopping", "stopped"):
        return None
    if record.state not in LIVE_STATES:
        from rbee_ssh.workers.failures import start_failed

        raise start_failed(record, connection.name, engine.name)
    listens = record.state != "starting" and (engine.binds_before_load or record.state != "loading")
    try:
        if not listens:
            from rbee_ssh.workers.failures import start_timeout

            raise start_timeout(record, connection.name, patience, "did not answer")
        if record.state in ("starting", "loading") or new:
            record = await wait_ready(connection, engine, record, model_bytes, pool.reporter)
            log.info("%s: worker %s is ready", connection.name, record.id)
        return record
    except Stopped:
        pool.reporter.say(f"another command stopped worker {record.id} on {connection.name}; looking again")
        return None
    except (WorkerStartTimeout, ForwardingRefused) as error:
        if new or isinstance(error, WorkerStartTimeout):
            from rbee_ssh.workers.stop import stop_on

            await stop_on(connection, [record.id], drain=0)
        raise


async def wait_ready(
    connection: Connection, engine: Engine, record: Record, model_bytes: int, reporter: Reporter
) -> Record:
    """Ask the worker until it says that it is ready. The key is not shown for that.

    Args:
        record: of the worker, which listens already (or ended).
        model_bytes: size of the model, which stretches the patience.

    Returns:
        The record; a newer one if the wait was long.

    Raises:
        Stopped: by somebody else.
        WorkerStartFailed, EngineBroken, ModelInvalid: it ended.
        WorkerStartTimeout: it stopped to make progress.
        ForwardingRefused: it listens, and the SSH server does not let us through.
    """
    patience = connection.timeouts.load + connection.timeouts.load_per_gib * model_bytes / 2**30
    began = last_beat = last_said = last_progress = time.monotonic()
    progress = record  # as it was then
    refusals = 0
    while True:
        if record.state in ("stopping", "stopped"):
            raise Stopped
        if record.state not in LIVE_STATES:
            from rbee_ssh.workers.failures import start_failed

            raise start_failed(record, connection.name, engine.name)
        try:
            if await _says_ready(connection, engine, record):
                return record
        except (ChannelRefused, http.StreamBroken, TimeoutError) as error:
            refusals += 1
            if refusals > 3 or not engine.binds_before_load:
                last_beat = 0.0  # look at once
            if isinstance(error, ChannelRefused) and refusals > 20 and record.state in ("idle", "busy"):
                raise await forwarding_refused(connection, record) from error
        now = time.monotonic()
        if now - last_beat >= BEAT:
            newer = await record_of(connection, record.id)
            if newer is None:
                raise Stopped
            if moved(progress, newer, seconds=now - last_progress, share=ANSWERING):
                progress, last_progress = newer, now
            record, last_beat = newer, now
            if now - last_said >= BEAT:
                reporter.say(f"loading on {connection.name}: {now - began:.0f} s")
                last_said = now
            if now - last_progress > patience:
                from rbee_ssh.workers.failures import start_timeout

                raise start_timeout(record, connection.name, patience, "made no progress with loading")
        await asyncio.sleep(min(max((now - began) / 10, SHORTEST_WAIT), LONGEST_WAIT))


async def _says_ready(connection: Connection, engine: Engine, record: Record) -> bool:
    """Whether the worker says that it has loaded its model.

    Raises:
        ChannelRefused, http.StreamBroken, TimeoutError: it does not answer.
        ResponseInvalid: it never will as it should.
    """
    async with (
        asyncio.timeout(max(connection.timeouts.http_connect, BEAT)),
        http.request(
            connection,
            "GET",
            engine.ready_path,
            socket=record.text("socket") or None,
            port=record.port,
            headers={},
        ) as answer,
    ):
        readiness = engine.readiness(answer.status)
    if readiness is Readiness.WRONG:
        raise ResponseInvalid(
            f"worker {record.id} on node {connection.name!r} answers with status {answer.status}",
            hint=f"rbee workers logs {record.id}",
        )
    return readiness is Readiness.READY


async def put_right(pool: ConnectionPool, serving: ServingWorker) -> None:
    """Stop the worker if it has lost its socket, port or key: it could not be used before its lease ends.

    To be asked only when several requests failed: a worker whose retirement is being tried is out of reach
    for some milliseconds.

    Raises:
        ForwardingRefused: it has both, so that it must be the SSH server that does not let us through.
        NodeFault: the connection or its shell.
    """
    from rbee_ssh.workers.ownership import own
    from rbee_ssh.workers.stop import stop_on

    connection, name = serving.connection, serving.entry.id
    record = await record_of(connection, name)
    if record is None or record.state not in ("idle", "busy"):
        return
    entry = records.entry(record, connection.name)
    there = await own(connection, entry)
    if there and record.key:
        raise await forwarding_refused(connection, record)
    lost = "key" if there else "port" if entry.socket is None else "socket"
    pool.reporter.warn(f"worker {name} on {connection.name} has lost its {lost} and is stopped")
    await stop_on(connection, [name], drain=connection.timeouts.drain)


async def forwarding_refused(connection: Connection, record: Record) -> ForwardingRefused:
    """The worker lives and listens, and the channel to it does not open."""
    unix = bool(record.text("socket"))
    directive = "AllowStreamLocalForwarding" if unix else "AllowTcpForwarding"
    fix = f"{directive} yes (or local) in its sshd_config"
    if not unix:
        what = (
            f"{directive} is off, PermitOpen leaves 127.0.0.1 out, or the key's line in authorized_keys says "
            "restrict"
        )
    elif await _tcp_is_forbidden(connection):
        what = (
            "no channel at all: restrict in the key's line of authorized_keys, or DisableForwarding in its "
            "sshd_config"
        )
        fix += ", and restrict,port-forwarding in that line"
    else:
        what = f"{directive} is off"
        fix = f'set listen = "tcp" for node {connection.name} in the inventory, or {fix}'
    return ForwardingRefused(
        f"node {connection.name!r}: its SSH server does not let us reach the worker: {what}",
        hint=fix,
        details={"node": connection.name, "directive": directive},
    )


async def _tcp_is_forbidden(connection: Connection) -> bool:
    """Whether the server refuses a channel to a port, too. Of a stream-local one it never says why."""
    try:
        async with connection.stream(None, 1):
            return False
    except ChannelRefused as refused:
        return getattr(refused.__cause__, "code", None) == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
