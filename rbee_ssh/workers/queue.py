"""Whether a worker has a slot free, and what is said when it has none.

Imported on the warm path: what only a look needs is imported by the look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from rbee_ssh.errors import RbeeError, WorkerBusy
from rbee_ssh.registry import Registry
from rbee_ssh.story import Story
from rbee_ssh.workers.fleet import Serving

if TYPE_CHECKING:
    from rbee_ssh.workers.records import Record

# A first token takes longer than this for one of three reasons: a long prompt, a slow node, or a queue.
PATIENCE_SECONDS = 3.0


def slots(record: Record) -> int:
    """How many requests the worker serves at the same time."""
    parallel = record.spec.get("parallel")
    return parallel if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel > 0 else 1


def full(record: Record, own: int = 0) -> bool:
    """Whether every slot is taken by others.

    Args:
        own: how many of the worker's connections are this command's.
    """
    return record.state == "busy" and (record.number("connections") or 1) - own >= slots(record)


def busy(record: Record, node: str, others: tuple[str, ...]) -> WorkerBusy:
    """The error for who does not want to wait.

    Args:
        others: nodes with a worker of the same model, as far as is known here.
    """
    taken = slots(record)
    which = "its slot is" if taken == 1 else f"all {taken} slots are"
    return WorkerBusy(
        f"worker {record.id} on node {node!r} is busy: {which} taken",
        hint=f"rbee infer --node {others[0]} …" if others else "leave out --no-wait to wait for it",
        details={"node": node, "worker": record.id, "slots": taken, "others": list(others)},
    )


async def refuse_full(serving: Serving, registry: Registry) -> None:
    """Look at the worker, for a request that is not to wait.

    Raises:
        WorkerBusy: every slot is taken.
        NodeFault: the connection or its shell.
    """
    from rbee_ssh.workers.look import one

    node = serving.connection.name
    record = await one(serving.connection, serving.entry.id)
    if record is not None and full(record):
        # Not by id either: a machine with two names is under both of them as full.
        known = [one for one in registry.workers() if one.node != node and one.id != serving.entry.id]
        same = {entry.node for entry in known if entry.model == serving.entry.model}
        raise busy(record, node, tuple(sorted(same)))


@contextlib.asynccontextmanager
async def told(serving: Serving, story: Story) -> AsyncIterator[None]:
    """Say once that the request is queued, if it still waits after PATIENCE_SECONDS and that is why."""
    teller = asyncio.create_task(_tell(serving, story))
    try:
        yield
    finally:
        teller.cancel()
        # Not `await teller`: who is cancelled here would take it for the teller's end, and go on.
        await asyncio.wait([teller])
        if not teller.cancelled():
            teller.result()


async def _tell(serving: Serving, story: Story) -> None:
    await asyncio.sleep(PATIENCE_SECONDS)
    from rbee_ssh.workers.look import one

    with contextlib.suppress(RbeeError):  # whatever is wrong with the connection ends the request itself
        record = await one(serving.connection, serving.entry.id)
        if record is not None and full(record, own=1):
            story.say(f"queued: worker {record.id} on {serving.connection.name} is answering others")
