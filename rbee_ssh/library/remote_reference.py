"""What a reference to the hub or a URL means: as they say now, as it is remembered, or as nodes say."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from rbee_ssh.errors import DownloadFailed, ModelAmbiguous, ModelNotFound, ModelRefInvalid, RbeeError
from rbee_ssh.library import stores
from rbee_ssh.models import sources
from rbee_ssh.models.known_sums import is_as_known, sums_by_place
from rbee_ssh.models.reference import HubRef, UrlRef, parse_reference
from rbee_ssh.models.remote import Remote, RemoteFile, from_memo, memo_key
from rbee_ssh.models.selection import find
from rbee_ssh.ssh.pool import ConnectionPool


async def resolve(pool: ConnectionPool, ref: HubRef | UrlRef) -> Remote:
    """What the reference means now; remembered, so that `infer` need not ask.

    Raises:
        RbeeError: see sources.resolve.
    """
    remote = await sources.resolve(ref, pool.inventory.timeouts, pool.reporter)
    await pool.registry.off_loop(pool.registry.put_facts, memo_key(ref), remote.memo())
    return remote


async def resolve_or_find(
    pool: ConnectionPool, ref: HubRef | UrlRef, nodes: Sequence[str]
) -> Mapping[str, Remote | None]:
    """As `resolve`, for each of these nodes. When nobody answers, what a node has of it by the notes in its
    own store, which is said: what one node says is nothing to the others, which are left out.

    Raises:
        RbeeError: as `resolve`, where no node has it either, or several models could be meant.
    """
    try:
        return dict.fromkeys(nodes, await resolve(pool, ref))
    except DownloadFailed as error:
        told: dict[str, Remote | None] = {}
        known = await pool.registry.off_loop(sums_by_place, pool.registry)
        store_contents, _ = await stores.store_contents(pool, nodes)
        for contents in store_contents:
            with contextlib.suppress(ModelNotFound, ModelAmbiguous):
                found = find(ref.display, contents.models, pool.inventory)
                # What others may have put there is not known by its note.
                certain = [one for one in found if one.whole and not one.open and is_as_known(one, known)]
                for model in certain[:1]:
                    pool.reporter.warn(f"{error.message}; {model.node} has {model.name}, which is used")
                    files = [RemoteFile(f.note.source, f.place, f.size, f.note.sha256) for f in model.files]
                    told[model.node] = Remote(
                        ref, model.note.source, model.note.revision, tuple(files), protected=True
                    )
        if not told:
            raise
        return told


async def meant(pool: ConnectionPool, reference: str) -> tuple[bool, Remote | None]:
    """Whether a user names a model of the hub or a URL; and that model, if anybody knows its SHA-256."""
    try:
        ref, _ = parse_reference(reference, pool.inventory)
    except ModelRefInvalid:
        return False, None
    if not isinstance(ref, HubRef | UrlRef):
        return False, None
    known = from_memo(ref, await pool.registry.off_loop(pool.registry.facts, memo_key(ref)))
    if known is None and (isinstance(ref, HubRef) or ref.sha256 is not None):
        try:
            known = await resolve(pool, ref)
        except RbeeError as error:
            pool.reporter.detail(error.message)
    return True, known if known is not None and known.proven else None
