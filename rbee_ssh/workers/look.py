"""Asking a node for its workers, and telling the registry."""

from __future__ import annotations

from rbee_ssh.node import refusals
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.workers import records
from rbee_ssh.workers.fleet import Fleet
from rbee_ssh.workers.records import LOOK_BODY, Look, Record


async def look(connection: Connection) -> Look:
    """The workers of a node, now.

    Raises:
        NodeFault: the connection or its shell.
    """
    result = await script.run(connection, LOOK_BODY, timeout=30.0)
    seen = records.parse(result.stdout.split("\n"))
    complain(connection, seen)
    return seen


def complain(connection: Connection, seen: Look) -> None:
    """Raise what the script said stood in its way.

    Raises:
        ShellUnusable: no place for a state directory.
        NodeLocked: another command holds the node's lock, for more than 10 s.
    """
    if seen.problem:
        raise refusals.unwritable(connection.name, seen.problem)
    if seen.locked_by:
        raise refusals.locked(connection.name, seen.locked_by)


def remember(fleet: Fleet, node: str, seen: Look) -> None:
    """Put what the node told into the registry: the node is the truth."""
    fleet.registry.sync_node(node, [records.entry(record, node) for record in seen.records])


async def one(connection: Connection, worker_id: str) -> Record | None:
    """A single worker's record, None when the node has none of that id."""
    return (await look(connection)).record(worker_id)
