"""`models push`: a local model to several nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import RbeeError
from rbee_ssh.models import deliver, header, outgoing
from rbee_ssh.models.transfer_progress import TransferProgress
from rbee_ssh.ssh.pool import ConnectionPool

AT_ONCE = 3  # transfers: more of them share the same way out of here


@dataclass(frozen=True, slots=True)
class Pushed:
    """A model that is on a node now: its first file there with SHA-256 and mtime (Unix seconds), the bytes of
    all files."""

    node: str
    path: str
    sha256: str
    size: int
    mtime: int


async def push(
    pool: ConnectionPool, file: Path, nodes: Sequence[str], on_node: Callable[[Pushed], None]
) -> dict[str, RbeeError]:
    """Bring a local file, with the other parts of a split model, to these nodes, three of them at once.

    Each node gets it at its own pace, from where an earlier transfer stopped. So the file is read for each of
    them, from memory when they go side by side; its SHA-256 is made once.

    Args:
        on_node: told of each node as it has all of it.

    Returns:
        The nodes where that failed, with the reason.

    Raises:
        ModelNotFound, ModelInvalid: the file, or a part of it, cannot be sent.
        RbeeError: of the only node.
    """
    files = await outgoing.model_files(file, pool.registry)
    for part in files:
        await header.refuse_cut(part.path)
    total = sum(one.size for one in files)
    where = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
    tally = TransferProgress(pool.reporter, f"sending {files[0].name} to {where}", total, len(nodes))
    failed: dict[str, RbeeError] = {}
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        models_dir = inventories.node(pool.inventory, name).models_dir
        try:
            async with turn:
                connection = await pool.connect(name)
                placed = await deliver.deliver_all(connection, files, models_dir, pool.reporter, tally)
        except RbeeError as error:
            if len(nodes) == 1:
                raise
            failed[name] = error
            tally.leave(name)
        else:
            on_node(Pushed(name, placed.path, files[0].sha256 or "", total, placed.mtime))

    try:
        async with asyncio.TaskGroup() as tasks:
            for name in nodes:
                tasks.create_task(one(name))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        for out in files:
            await out.close()
    return failed
