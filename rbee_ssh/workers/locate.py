"""Where a model is, or will be, on each node, and who has its bytes. No node is asked, the hub only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rbee_ssh.models.reference import HubRef, LocalFileRef, NodeFileRef, UrlRef
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers.resolve import Model, ResolvedRequest

if TYPE_CHECKING:
    from rbee_ssh.models.deliver import Source
    from rbee_ssh.models.remote import Remote


async def locate(
    pool: ConnectionPool, requests: Sequence[ResolvedRequest], *, read: bool = True
) -> list[ResolvedRequest]:
    """The requests, for one model on several nodes, with the model located.

    Args:
        read: whether a file of this machine whose SHA-256 nobody remembers is read for it.

    Raises:
        RbeeError: as outgoing.identify and library.pull.resolve_or_find.
    """
    source = await _source(pool, requests, read=read)
    remote = await _remote(pool, requests)
    return [replace(request, model=_located(request, source, remote)) for request in requests]


async def _source(pool: ConnectionPool, requests: Sequence[ResolvedRequest], *, read: bool) -> Source | None:
    """The local file's identity, when a node would need it sent: every node but this machine."""
    local = requests[0].model.local
    if local is None or all(request.node.embedded for request in requests):
        return None
    from rbee_ssh.models import deliver, outgoing

    if read:
        return await deliver.identify(local, pool.registry, pool.reporter)
    sha256 = outgoing.remembered(local, pool.registry)
    return deliver.Source(local, sha256) if sha256 is not None else None


async def _remote(pool: ConnectionPool, requests: Sequence[ResolvedRequest]) -> Remote | None:
    """What a reference to the hub or a URL meant when it was last asked for, or else means now.

    Not asked again: a model does not change because somebody uploads another one, and a node that has it
    needs no hub. `models pull` asks.
    """
    ref = requests[0].model.ref
    if not isinstance(ref, HubRef | UrlRef):
        return None
    from rbee_ssh.models.remote import from_memo, memo_key

    remote = from_memo(ref, pool.registry.facts(memo_key(ref)))
    if remote is not None:
        return remote
    from rbee_ssh.library.pull import resolve_or_find

    return await resolve_or_find(pool, ref, [request.node.name for request in requests])


def _located(request: ResolvedRequest, source: Source | None, remote: Remote | None) -> Model:
    node, model, path = request.node, request.model, ""
    if isinstance(model.ref, NodeFileRef):
        path = model.ref.path
    elif isinstance(model.ref, LocalFileRef):
        if node.embedded and model.local is not None:
            path = model.local[0]
        elif source is not None:
            path = source.stored_as(node.models_dir)
    elif remote is not None:
        from rbee_ssh.models.store import in_store

        path = in_store(node.models_dir, remote.files[0].place)
    return replace(model, source=source, remote=remote, path=path)
