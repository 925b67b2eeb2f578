"""A worker's slots: whether all are taken, and what is said to who waits for one, or is not to."""

from __future__ import annotations

import contextlib

from rbee_ssh.errors import RbeeError, WorkerBusy
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import Reporter
from rbee_ssh.workers.records import Record, record_of
from rbee_ssh.workers.types import ServingWorker


def slots(record: Record) -> int:
    """How many requests the worker serves at the same time."""
    return record.spec_number("parallel") or 1


def full(record: Record, own: int = 0) -> bool:
    """Whether every slot is taken by others.

    Args:
        own: how many of the worker's connections are this command's.
    """
    return record.state == "busy" and (record.number("connections") or 1) - own >= slots(record)


def busy(record: Record, node: str, others: tuple[str, ...]) -> WorkerBusy:
    """The error for who does not want to wait.

    Args:
        others: nodes with a worker of the same model, as far as is remembered here.
    """
    taken = slots(record)
    which = "its slot is" if taken == 1 else f"all {taken} slots are"
    return WorkerBusy(
        f"worker {record.id} on node {node!r} is busy: {which} taken",
        hint=f"rbee infer --node {others[0]} …" if others else "leave out --no-wait to wait for it",
        details={"node": node, "worker": record.id, "slots": taken, "others": list(others)},
    )


async def refuse_full(serving: ServingWorker, registry: Registry) -> None:
    """Look at the worker, for a request that is not to wait.

    Raises:
        WorkerBusy: every slot is taken.
        NodeFault: the connection or its shell.
    """
    node, serves = serving.connection.name, serving.entry
    record = await record_of(serving.connection, serving.entry.id)
    if record is not None and full(record):
        others = {
            entry.node
            for entry in await registry.off_loop(registry.workers)
            # Not by id either: a machine with two names is under both of them as full.
            if entry.model == serves.model and entry.node != node and entry.id != serves.id
        }
        raise busy(record, node, tuple(sorted(others)))


async def say_queued(serving: ServingWorker, reporter: Reporter) -> None:
    """Say that the request is queued, if others have all slots."""
    with contextlib.suppress(RbeeError):  # whatever is wrong with the connection ends the request itself
        record = await record_of(serving.connection, serving.entry.id)
        if record is not None and full(record, own=1):
            reporter.say(f"queued: worker {record.id} on {serving.connection.name} is answering others")
