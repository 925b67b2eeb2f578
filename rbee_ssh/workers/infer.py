"""One prompt, answered: the warm path first, the full path when anything about it fails."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ApiKeyRejected, RbeeError, WorkerStalled, WorkerStartFailed
from rbee_ssh.registry import Registry, WorkerEntry
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.ssh.pool import ConnectionPool, ServingWorker
from rbee_ssh.workers.resolve import ResolvedRequest, resolve
from rbee_ssh.workers.types import Event, InferRequest

# A worker can be stopped between being found and being asked, by its lease or a cleanup: then the next one.
TRIES = 5


async def infer(pool: ConnectionPool, request: InferRequest, emit: Callable[[Event], None]) -> None:
    """Answer one prompt, event by event: Started, Token and Thinking, Done.

    Raises:
        RbeeError: what stood in the way; what was emitted before stays true.
    """
    try:
        async with asyncio.timeout(request.timeout):
            await _answer(pool, request, emit)
    except TimeoutError:
        raise WorkerStalled(
            f"no complete answer within {request.timeout} s",
            hint="raise --timeout, or lower --max-tokens",
        ) from None
    except asyncio.CancelledError:
        if not request.remove:
            pool.tell_started()
        raise
    finally:
        if request.remove:
            await _remove(pool)


async def _remove(pool: ConnectionPool) -> None:
    """Stop what this command started, ready or not."""
    from rbee_ssh.workers.stop import stop_on

    for worker_id, node in pool.started.items():
        await stop_on(await pool.connect(node), [worker_id], drain=0)
        await pool.registry.off_loop(pool.registry.forget, worker_id)


async def _answer(pool: ConnectionPool, request: InferRequest, emit: Callable[[Event], None]) -> None:
    """Answer by the first worker that does."""
    serving = await _warm(pool, request)
    from rbee_ssh.workers.ask import WorkerGone, ask

    rejected = 0
    missed = None
    for number in range(TRIES):
        if number == TRIES - 1 and missed is not None and missed.reused:
            await _put_right(pool, missed)
        if serving is None:
            serving = await _full(pool, request)
        try:
            await ask(pool, serving, request, emit)
            return
        except WorkerGone as error:
            refused = isinstance(error.__cause__, ChannelRefused) or not serving.entry.api_key
            missed, serving = serving if refused else None, None
        except ApiKeyRejected:
            # The full path reads the key file on the node again. Once: a second no is an answer.
            rejected += 1
            if rejected > 1:
                raise
            serving = None
    raise WorkerStartFailed(
        f"{TRIES} workers in turn were gone before they could be asked",
        hint="rbee workers list   # is something else stopping them?",
    )


async def _put_right(pool: ConnectionPool, serving: ServingWorker) -> None:
    from rbee_ssh.workers.ready import put_right

    await put_right(pool, serving)


async def _warm(pool: ConnectionPool, request: InferRequest) -> ServingWorker | None:
    """The worker that the registry remembers for this very request, None when there is none."""
    names = [request.worker.node] if request.worker.node is not None else list(pool.inventory.nodes)
    nodes = [inventories.node(pool.inventory, name) for name in names]
    wishes = [resolve(request.worker, pool.inventory, node) for node in nodes]
    if len(names) == 1:
        # This node will be asked whatever is remembered of it, and its login takes longer than the look.
        pool.begin(names[0])
    for entry in await pool.registry.off_loop(_remembered, pool.registry, wishes):
        try:
            connection = await pool.connect(entry.node, tries=None if len(names) == 1 else 1)
            if entry.port is None or await _still_ours(connection, entry):
                return ServingWorker(connection, entry, True)
        except RbeeError:
            if len(names) == 1:
                raise
            pool.reporter.detail(f"{entry.node} has a worker for this and cannot be reached")
    return None


async def _still_ours(connection: Connection, entry: WorkerEntry) -> bool:
    from rbee_ssh.workers.records import still_ours

    return await still_ours(connection, entry)


def _remembered(registry: Registry, wishes: Sequence[ResolvedRequest]) -> list[WorkerEntry]:
    """The workers to try, node by node."""
    # The longest import of what comes next, while the node is busy with the login.
    importlib.import_module("rbee_ssh.workers.ask")
    found = [
        entry
        for one in wishes
        for entry in registry.warm(one.fingerprint)
        if entry.node == one.node.name and entry.api_key
    ]
    if not found:
        importlib.import_module("rbee_ssh.workers.start")  # the full path is next
    return found


async def _full(pool: ConnectionPool, request: InferRequest) -> ServingWorker:
    from rbee_ssh.workers import records
    from rbee_ssh.workers.start import acquire

    got = await acquire(pool, request.worker)
    name = got.connection.name
    return ServingWorker(got.connection, records.entry(got.record, name), got.reused)
