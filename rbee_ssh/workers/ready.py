"""Waiting for a started worker until it has loaded its model."""

from __future__ import annotations

import asyncio
import time

from rbee_ssh.engines.base import Engine, Readiness
from rbee_ssh.errors import ResponseInvalid
from rbee_ssh.ssh import http
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.story import Story
from rbee_ssh.workers import failure
from rbee_ssh.workers.look import one
from rbee_ssh.workers.moving import moved
from rbee_ssh.workers.records import Record
from rbee_ssh.workers.types import LIVE_STATES
from rbee_ssh.workers.unreachable import forwarding_refused

# How often an answer is looked for: after a tenth of the time that was waited, so that a small model, which
# loads in a fraction of a second, is not kept waiting.
SHORTEST_WAIT = 0.02
LONGEST_WAIT = 0.5
# Of one CPU, what an engine may take to say that it is not ready: measured 0.07 % at four questions a second.
ANSWERING = 0.003
# How often the node is asked by script whether the engine lives and moves.
BEAT = 5.0


class Stopped(Exception):
    """Another command stopped the worker while it loaded. Not for the user."""


async def wait_ready(
    connection: Connection, engine: Engine, record: Record, model_bytes: int, story: Story
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
            raise failure.start_failed(record, connection.name, engine.name)
        try:
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
            if readiness is Readiness.READY:
                return record
            if readiness is Readiness.WRONG:
                raise ResponseInvalid(
                    f"worker {record.id} on node {connection.name!r} answers with status {answer.status}",
                    hint=f"rbee workers logs {record.id}",
                )
        except (ChannelRefused, http.StreamBroken, TimeoutError) as error:
            refusals += 1
            if refusals > 3 or not engine.binds_before_load:
                last_beat = 0.0  # look at once
            if isinstance(error, ChannelRefused) and refusals > 20 and record.state in ("idle", "busy"):
                raise await forwarding_refused(connection, record) from error
        now = time.monotonic()
        if now - last_beat >= BEAT:
            newer = await one(connection, record.id)
            if newer is None:
                raise Stopped
            if moved(progress, newer, seconds=now - last_progress, share=ANSWERING):
                progress, last_progress = newer, now
            record, last_beat = newer, now
            if now - last_said >= BEAT:
                story.say(f"loading on {connection.name}: {now - began:.0f} s")
                last_said = now
            if now - last_progress > patience:
                raise failure.start_timeout(
                    record, connection.name, record.id, patience, "made no progress with loading"
                )
        await asyncio.sleep(min(max((now - began) / 10, SHORTEST_WAIT), LONGEST_WAIT))
