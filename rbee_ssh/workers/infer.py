"""One prompt, answered: the warm path first, the full path when anything about it fails."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ApiKeyRejected, RbeeError, WorkerStalled, WorkerStartFailed
from rbee_ssh.registry import Registry, WorkerEntry
from rbee_ssh.ssh.connection import ChannelRefused
from rbee_ssh.workers.fleet import Fleet, Serving
from rbee_ssh.workers.types import Event, InferRequest
from rbee_ssh.workers.wish import Wish, wish

# A worker can be stopped between being found and being asked, by its lease or a cleanup: then the next one.
TRIES = 5


async def infer(fleet: Fleet, request: InferRequest, emit: Callable[[Event], None]) -> None:
    """Answer one prompt, event by event: Started, Token and Thinking, Done.

    Raises:
        RbeeError: what stood in the way; what was emitted before stays true.
    """
    try:
        async with asyncio.timeout(request.timeout):
            await _answer(fleet, request, emit)
    except TimeoutError:
        raise WorkerStalled(
            f"no complete answer within {request.timeout} s",
            hint="raise --timeout, or lower --max-tokens",
        ) from None
    except asyncio.CancelledError:
        if not request.remove:
            fleet.tell_started()
        raise
    finally:
        if request.remove:
            await _remove(fleet)


async def _remove(fleet: Fleet) -> None:
    """Stop what this command started, ready or not."""
    from rbee_ssh.workers.stop import stop_on

    for worker_id, node in fleet.started.items():
        await stop_on(await fleet.connect(node), [worker_id], drain=0)
        fleet.registry.forget(node, worker_id)


async def _answer(fleet: Fleet, request: InferRequest, emit: Callable[[Event], None]) -> None:
    """Answer by the first worker that does."""
    serving = await _warm(fleet, request)
    from rbee_ssh.workers.ask import Missed, ask

    rejected = 0
    missed = None
    for number in range(TRIES):
        if number == TRIES - 1 and missed is not None and missed.reused:
            await _put_right(fleet, missed)
        if serving is None:
            serving = await _full(fleet, request)
        try:
            await ask(fleet, serving, request, emit)
            return
        except Missed as error:
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


async def _put_right(fleet: Fleet, serving: Serving) -> None:
    from rbee_ssh.workers.unreachable import put_right

    await put_right(fleet, serving)


async def _warm(fleet: Fleet, request: InferRequest) -> Serving | None:
    """The worker that the registry remembers for this very request, None when there is none."""
    names = [request.worker.node] if request.worker.node is not None else list(fleet.inventory.nodes)
    nodes = [inventories.node(fleet.inventory, name) for name in names]
    wishes = [wish(request.worker, fleet.inventory, node) for node in nodes]
    if len(names) == 1:
        # This node will be asked whatever is remembered of it, and its login takes longer than the look.
        fleet.begin(names[0])
    for entry in await asyncio.to_thread(_remembered, fleet.registry, wishes):
        try:
            connection = await fleet.connect(entry.node, tries=None if len(names) == 1 else 1)
            return Serving(connection, entry, True)
        except RbeeError:
            if len(names) == 1:
                raise
            fleet.story.detail(f"{entry.node} has a worker for this and cannot be reached")
    return None


def _remembered(registry: Registry, wishes: Sequence[Wish]) -> list[WorkerEntry]:
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


async def _full(fleet: Fleet, request: InferRequest) -> Serving:
    from rbee_ssh.workers import records
    from rbee_ssh.workers.start import acquire

    got = await acquire(fleet, request.worker)
    name = got.connection.name
    return Serving(got.connection, records.entry(got.record, name), got.reused)
