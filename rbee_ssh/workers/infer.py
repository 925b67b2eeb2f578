"""One prompt, answered: the warm path first, the full path when anything about it fails."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rbee_ssh.errors import ApiKeyRejected, RbeeError, WorkerStalled, WorkerStartFailed
from rbee_ssh.ssh.connection import ChannelRefused
from rbee_ssh.workers.resolve import ResolvedRequest, resolve_all
from rbee_ssh.workers.types import Event, InferRequest, ServingWorker

if TYPE_CHECKING:
    from rbee_ssh.registry import Registry, WorkerEntry
    from rbee_ssh.ssh.pool import ConnectionPool

# A worker can be stopped between being found and being asked, by its lease or a cleanup: then the next one.
TRIES = 5

log = logging.getLogger("rbee.worker")


async def infer(pool: ConnectionPool, request: InferRequest, emit: Callable[[Event], None]) -> None:
    """Answer one prompt, event by event: Started, Token and Thinking, Done.

    Raises:
        RbeeError: what stood in the way; what was emitted before stays true.
    """
    try:
        async with asyncio.timeout(request.timeout):
            await _answer(pool, request, resolve_all(request.worker, pool.inventory), emit)
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
        await pool.registry.off_loop(pool.registry.forget, node, worker_id)


async def _answer(
    pool: ConnectionPool,
    request: InferRequest,
    resolved: Sequence[ResolvedRequest],
    emit: Callable[[Event], None],
) -> None:
    """Answer by the first worker that does."""
    serving = await remembered(pool, resolved)
    from rbee_ssh.workers.ask import WorkerGone, ask

    rejected = False
    unreachable = None
    for number in range(TRIES):
        if number == TRIES - 1 and unreachable is not None and unreachable.reused:
            from rbee_ssh.workers.ready import put_right

            await put_right(pool, unreachable)
        if serving is None:
            from rbee_ssh.workers.start import acquire

            serving = await acquire(pool, resolved)
        entry = serving.entry
        log.info("%s: ask worker %s, reused: %s", entry.node, entry.id, serving.reused)
        try:
            await ask(pool, serving, request, emit)
            return
        except WorkerGone as error:
            log.info("%s: worker %s is gone: %r", entry.node, entry.id, error.__cause__)
            refused = isinstance(error.__cause__, ChannelRefused) or not serving.entry.api_key
            unreachable, serving = serving if refused else None, None
        except ApiKeyRejected:
            # The full path reads the key file on the node again. Once: a second no is an answer.
            if rejected:
                raise
            rejected, serving = True, None
    raise WorkerStartFailed(
        f"{TRIES} workers in turn were gone before they could be asked",
        hint="rbee workers list   # is something else stopping them?",
    )


async def remembered(pool: ConnectionPool, resolved: Sequence[ResolvedRequest]) -> ServingWorker | None:
    """The worker that this very request led to before, None when there is none.

    Raises:
        RbeeError: the connection to the only node in question.
    """
    only = resolved[0].node.name if len(resolved) == 1 else None
    if only is not None:
        # This node will be asked whatever is remembered of it, and its login takes longer than the look.
        pool.begin(only)
    for entry in await pool.registry.off_loop(_entries, pool.registry, resolved):
        try:
            connection = await pool.connect(entry.node, tries=None if only is not None else 1)
            return ServingWorker(connection, entry, True)
        except RbeeError:
            if only is not None:
                raise
            pool.reporter.detail(f"{entry.node} has a worker for this and cannot be reached")
    return None


def _entries(registry: Registry, resolved: Sequence[ResolvedRequest]) -> list[WorkerEntry]:
    """The workers to try, node by node."""
    # The longest import of what comes next, while the node is busy with the login.
    importlib.import_module("rbee_ssh.workers.ask")
    entries = [
        entry
        for request in resolved
        for entry in registry.warm(request.fingerprint)
        if entry.node == request.node.name and entry.api_key
    ]
    if not entries:
        importlib.import_module("rbee_ssh.workers.start")  # the full path is next
    return entries
