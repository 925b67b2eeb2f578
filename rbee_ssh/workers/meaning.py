"""What a reference to the hub or a URL means: as they say now, as it is remembered, or as nodes say."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from rbee_ssh.errors import DownloadFailed, ModelAmbiguous, ModelNotFound, ModelRefInvalid, RbeeError
from rbee_ssh.models import sources
from rbee_ssh.models.find import find
from rbee_ssh.models.known import is_as_known, sums_by_place
from rbee_ssh.models.reference import parse_reference
from rbee_ssh.models.refs import HubRef, UrlRef
from rbee_ssh.models.remote import Remote, RemoteFile, from_memo, memo_key
from rbee_ssh.workers import store
from rbee_ssh.workers.fleet import Fleet


async def resolve(fleet: Fleet, ref: HubRef | UrlRef) -> Remote:
    """What the reference means now; remembered, so that `infer` need not ask.

    Raises:
        RbeeError: see sources.resolve.
    """
    remote = await sources.resolve(ref, fleet.inventory.timeouts, fleet.story)
    fleet.registry.put_facts(memo_key(ref), remote.memo())
    return remote


async def resolve_or_find(
    fleet: Fleet, ref: HubRef | UrlRef, nodes: Sequence[str]
) -> Mapping[str, Remote | None]:
    """As `resolve`, for each of these nodes. When nobody answers, what a node has of it by the notes in its
    own store, which is said: what one node says is nothing to the others, which are left out.

    Raises:
        RbeeError: as `resolve`, where no node has it either, or several models could be meant.
    """
    try:
        return dict.fromkeys(nodes, await resolve(fleet, ref))
    except DownloadFailed as error:
        told: dict[str, Remote | None] = {}
        known = sums_by_place(fleet.registry)
        shelves, _ = await store.shelves(fleet, nodes)
        for shelf in shelves:
            with contextlib.suppress(ModelNotFound, ModelAmbiguous):
                found = find(ref.display, shelf.models, fleet.inventory)
                # What others may have put there is not known by its note.
                certain = [one for one in found if one.whole and not one.open and is_as_known(one, known)]
                for model in certain[:1]:
                    fleet.story.warn(f"{error.message}; {model.node} has {model.name}, which is used")
                    files = [RemoteFile(f.note.source, f.place, f.size, f.note.sha256) for f in model.files]
                    told[model.node] = Remote(
                        ref, model.note.source, model.note.revision, tuple(files), protected=True
                    )
        if not told:
            raise
        return told


async def meant(fleet: Fleet, reference: str) -> tuple[bool, Remote | None]:
    """Whether a user names a model of the hub or a URL; and that model, if anybody knows its SHA-256."""
    try:
        ref, _ = parse_reference(reference, fleet.inventory)
    except ModelRefInvalid:
        return False, None
    if not isinstance(ref, HubRef | UrlRef):
        return False, None
    known = from_memo(ref, fleet.registry.facts(memo_key(ref)))
    if known is None and (isinstance(ref, HubRef) or ref.sha256 is not None):
        try:
            known = await resolve(fleet, ref)
        except RbeeError as error:
            fleet.story.detail(error.message)
    return True, known if known is not None and known.proven else None
