"""A model to a node that has not got it: found elsewhere in its store, sent from here, or fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rbee_ssh.errors import ModelNotFound
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers.prepare import Prepared, prepare
from rbee_ssh.workers.resolve import FilesOnNode


async def find_elsewhere(pool: ConnectionPool, prepared: Prepared) -> Prepared:
    """With the model, where the node has it in another place of its store: a worker may have it, too.

    Raises:
        RbeeError: as fetch.find and receiver.find.
    """
    connection, model = prepared.connection, prepared.model
    models_dir, remote, source = prepared.request.node.models_dir, model.remote, model.source
    if remote is not None and remote.files[0].sha256 is not None:
        from rbee_ssh.models.fetch import find

        if await find(connection, remote, models_dir, pool.reporter) is not None:
            return await prepare(pool, prepared.request)  # it is linked to its place now
    elif source is not None and model.local_bytes == source.size:  # of parts, deliver_all looks for each
        from rbee_ssh.models import receiver

        placed = await receiver.find(connection, models_dir, source.sha256, source.size, pool.reporter)
        if placed is not None:
            return _with_files(prepared, FilesOnNode(placed.path, placed.size, placed.mtime, placed.size))
    return prepared


async def bring(pool: ConnectionPool, prepared: Prepared) -> tuple[Prepared, FilesOnNode]:
    """The node with the model, probed anew: what is free may have changed while it came. And the model there.

    Raises:
        RbeeError: as obtain.pull and deliver.deliver_all.
    """
    node, model = prepared.request.node, prepared.model
    if model.remote is not None:
        from rbee_ssh.models.obtain import pull

        fetched = await pull(prepared.connection, model.remote, node.models_dir, pool.registry, pool.reporter)
        files = FilesOnNode(fetched.path, fetched.size, fetched.mtime, fetched.size)
    elif model.source is not None:
        from rbee_ssh.models import deliver, outgoing

        outgoings = await outgoing.model_files(
            Path(model.source.stamp[0]), pool.registry, model.source.sha256
        )
        try:
            placed = await deliver.deliver_all(prepared.connection, outgoings, node.models_dir, pool.reporter)
        finally:
            for file in outgoings:
                await file.close()
        files = FilesOnNode(placed.path, placed.size, placed.mtime, model.size)
    else:
        raise ModelNotFound(f"{model.name} is not on {node.name}")
    prepared = await prepare(pool, prepared.request)
    if prepared.model.files is None:  # the node had the same bytes in another place
        prepared = _with_files(prepared, files)
    return prepared, prepared.model.files or files


def _with_files(prepared: Prepared, files: FilesOnNode) -> Prepared:
    return replace(prepared, model=replace(prepared.model, files=files))
