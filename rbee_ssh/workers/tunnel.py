"""A forwarded local port for other programs: `rbee tunnel WORKER`.

A worker ends and the next one has another key and another socket, so the port is not a plain forward
(proxy.py): who connects shows the tunnel's own key, which stands in a 0600 file here and is good as long as
the tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh.errors import RbeeError, UsageInvalid, WorkerUnknown
from rbee_ssh.inventory import Inventory
from rbee_ssh.ssh.connection import ChannelRefused
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import records
from rbee_ssh.workers.listing import find_worker
from rbee_ssh.workers.proxy import UpstreamChannel, served
from rbee_ssh.workers.records import record_of
from rbee_ssh.workers.resolve import resolve_all
from rbee_ssh.workers.types import ServingWorker, WorkerRequest


@dataclass(frozen=True, slots=True)
class TunnelInfo:
    """What the user needs for it. `header_file` holds an Authorization line, for `curl -H @FILE`."""

    base_url: str
    header_file: str
    worker: str
    model: str


class _Target:
    """The worker behind the tunnel, replaced when it is gone."""

    def __init__(self, pool: ConnectionPool, serving: ServingWorker, request: WorkerRequest) -> None:
        self._pool = pool
        self._request = request
        self._lock = asyncio.Lock()
        self._serving = serving

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[UpstreamChannel]:
        """A channel to the worker, to the next one if it is gone.

        Raises:
            ChannelRefused: it is there, and does not let us in.
            RbeeError: there is no next one.
        """
        async with contextlib.AsyncExitStack() as stack:
            for last in (False, False, True):
                serving = self._serving
                connection, entry = serving.connection, serving.entry
                try:
                    stream = connection.stream(entry.socket, entry.port, serving.proof)
                    reader, writer = await stack.enter_async_context(stream)
                    break
                except (ChannelRefused, RbeeError):
                    if last:
                        raise
                await self._next(serving)
            yield UpstreamChannel(connection, entry.api_key, reader, writer)

    async def _next(self, gone: ServingWorker) -> None:
        from rbee_ssh.workers.start import acquire

        async with self._lock:
            if self._serving is not gone:
                return  # somebody else's connection has been here
            # Resolved anew: a preset's file may have changed since.
            self._serving = await acquire(self._pool, resolve_all(self._request, self._pool.inventory))
            old, new = gone.entry.id, self._serving.entry.id
            if old != new:
                self._pool.reporter.say(f"worker {old} is gone; {new} serves now")


async def tunnel(
    pool: ConnectionPool, worker: str, *, port: int, announce: Callable[[TunnelInfo], None]
) -> None:
    """Serve a worker on 127.0.0.1 until cancelled.

    Args:
        worker: its id, or the start of it.
        port: the local port; 0 for any free one.

    Raises:
        WorkerUnknown, NodeFault: there is no such worker, or its node does not answer.
        UsageInvalid: the port is taken.
    """
    named = await find_worker(pool, worker)
    connection = await pool.connect(named.node)
    record = await record_of(connection, named.id)
    if record is None:
        raise WorkerUnknown(f"worker {named.id} ended just now", hint="rbee workers list")
    request = _request_of(record, named.node, pool.inventory)
    serving = ServingWorker(connection, records.entry(record, named.node), reused=True)
    target = _Target(pool, serving, request)
    key = secrets.token_hex(24)
    async with served(target.channel, key, port) as bound:
        with _header_file(key) as path:
            announce(TunnelInfo(f"http://127.0.0.1:{bound}/v1", path, named.id, named.model))
            await asyncio.get_running_loop().create_future()  # until cancelled


def _request_of(record: records.Record, node: str, inventory: Inventory) -> WorkerRequest:
    """The request that leads to a worker like this one: by its preset, with its arguments, or by file."""
    context, parallel = record.spec.get("context"), record.spec.get("parallel")
    model = record.spec_text("model")
    return WorkerRequest(
        model=model if model in inventory.models else "file://" + record.spec_text("model_path"),
        node=node,
        engine=record.spec_text("engine") or None,
        context=context if isinstance(context, int) else None,
        parallel=parallel if isinstance(parallel, int) else None,
        backend=record.spec_text("backend") or None,
        device=record.spec_text("device") or None,
    )


@contextlib.contextmanager
def _header_file(key: str) -> Iterator[str]:
    """A 0600 file with the Authorization line, removed at the end.

    Raises:
        UsageInvalid: there is no place for one.
    """
    descriptor, path = -1, ""
    # XDG_RUNTIME_DIR may be another user's, after su, or gone with the login it was made for.
    for base in (os.environ.get("XDG_RUNTIME_DIR") or None, None):
        try:
            descriptor, path = tempfile.mkstemp(prefix="rbee-tunnel-", suffix=".header", dir=base)
            break
        except OSError as error:
            problem = error
    if descriptor < 0:
        raise UsageInvalid(f"no file can be made for the key: {problem.strerror}", hint="export TMPDIR=…")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"Authorization: Bearer {key}\n")
        yield path
    finally:
        Path(path).unlink(missing_ok=True)
