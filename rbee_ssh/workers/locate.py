"""Where a model is, or will be, on each node, and who has its bytes. No node is asked, the hub only once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The requests, for one model on several nodes, with the model located: without those of nodes that alone
    could tell what a reference to the hub or a URL means, and cannot.

    Args:
        read: whether a file of this machine whose SHA-256 nobody remembers is read for it.

    Raises:
        RbeeError: as outgoing.identify and remote_reference.resolve_or_find.
    """
    source = await _source(pool, requests, read=read)
    remotes = await _remotes(pool, requests)
    return [
        replace(request, model=_located(request, source, remotes[request.node.name]))
        for request in requests
        if request.node.name in remotes
    ]


async def _source(pool: ConnectionPool, requests: Sequence[ResolvedRequest], *, read: bool) -> Source | None:
    """The local file's identity, when a node would need it sent: every node but this machine."""
    local = requests[0].model.local
    if local is None or all(request.node.embedded for request in requests):
        return None
    from rbee_ssh.models import deliver

    if read:
        return await deliver.identify(local, pool.registry, pool.reporter)
    return await deliver.remembered(local, pool.registry)


async def _remotes(pool: ConnectionPool, requests: Sequence[ResolvedRequest]) -> Mapping[str, Remote | None]:
    """What a reference to the hub or a URL meant when it was last asked for, or else means now, by node: all
    the same, unless only the nodes themselves can tell; then those are left out that cannot. None of others.

    Not asked again: a model does not change because somebody uploads another one, and a node that has it
    needs no hub. `models pull` asks.
    """
    names, ref = [request.node.name for request in requests], requests[0].model.ref
    if not isinstance(ref, HubRef | UrlRef):
        return dict.fromkeys(names)
    from rbee_ssh.models.remote import from_memo, memo_key

    remembered = from_memo(ref, await pool.registry.off_loop(pool.registry.facts, memo_key(ref)))
    if remembered is not None:
        return dict.fromkeys(names, remembered)
    from rbee_ssh.library.remote_reference import resolve_or_find

    return await resolve_or_find(pool, ref, names)


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
