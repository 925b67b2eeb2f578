"""`models pull`: a model of the hub or of a URL, to several nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import DownloadFailed, ModelAmbiguous, ModelNotFound, RbeeError, UsageInvalid
from rbee_ssh.library import stores
from rbee_ssh.library.push import Pushed
from rbee_ssh.library.replicate import spread
from rbee_ssh.models import obtain as pulls
from rbee_ssh.models import sources
from rbee_ssh.models.fetch import FetchedModel
from rbee_ssh.models.reference import HubRef, LocalFileRef, NodeFileRef, UrlRef, parse_reference
from rbee_ssh.models.remote import Remote, RemoteFile, memo_key
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is on a node now, or on its way."""

    node: str
    remote: Remote
    fetched: FetchedModel


def _not_to_be_fetched(ref: NodeFileRef | LocalFileRef, node: str) -> UsageInvalid:
    if isinstance(ref, NodeFileRef):
        return UsageInvalid(
            f"{ref.display} is a file of the node already; pull takes hf:… and https:…",
            hint="rbee models pull hf:ORG/REPO:QUANT",
        )
    return UsageInvalid(
        f"{ref.display} is a path of this machine; pull takes hf:… and https:…",
        hint=f"rbee models pull {quote(ref.hub_guess)} --node {quote(node)}"
        if ref.hub_guess and not ref.path.exists()
        else f"rbee models push {quote(str(ref.path))} --node {quote(node)}",
    )


async def pull(
    pool: ConnectionPool,
    reference: str,
    nodes: Sequence[str],
    on_node: Callable[[Pulled], None],
    *,
    via_here: bool = False,
    detach: bool = False,
) -> dict[str, RbeeError]:
    """Bring a model to these nodes: fetched once, by one of them, which hands it on through here.

    With `detach` each node fetches for itself, and with `via_here` this machine does for all.

    Returns:
        The nodes where that failed, with the reason.

    Raises:
        UsageInvalid: the reference names a file of a node or of this machine.
        RbeeError: the hub or the server; see sources.resolve.
    """
    ref, _ = parse_reference(reference, pool.inventory)
    if not isinstance(ref, HubRef | UrlRef):
        raise _not_to_be_fetched(ref, nodes[0])
    remote = await resolve(pool, ref)
    once = len(nodes) > 1 and not (via_here or detach)
    failed: dict[str, RbeeError] = {}
    for name in await _nearest_first(pool, remote, nodes) if once else nodes:
        node = inventories.node(pool.inventory, name)
        try:
            connection = await pool.connect(name)
            got = await pulls.pull(
                connection,
                remote,
                node.models_dir,
                pool.registry,
                pool.reporter,
                via_here=via_here,
                detach=detach,
            )
        except RbeeError as error:
            if len(nodes) == 1:
                raise
            failed[name] = error
            continue
        on_node(Pulled(name, remote, got))
        if once:
            return await _hand_on(pool, remote, name, got.path, nodes, on_node)
    return failed


async def _nearest_first(pool: ConnectionPool, remote: Remote, nodes: Sequence[str]) -> list[str]:
    """The nodes, those that have the model already before those that would have to fetch it."""
    found, _ = await stores.store_contents(pool, nodes)
    have = {
        contents.node
        for contents in found
        for model in contents.models
        if model.whole and model.place == remote.files[0].place
    }
    return sorted(nodes, key=lambda name: name not in have)


async def _hand_on(
    pool: ConnectionPool,
    remote: Remote,
    origin: str,
    path: str,
    nodes: Sequence[str],
    on_node: Callable[[Pulled], None],
) -> dict[str, RbeeError]:
    """From the node that has it now to the others, those without a way to the internet among them."""

    rest = [name for name in nodes if name != origin]

    def tell(pushed: Pushed) -> None:
        rest.remove(pushed.node)
        on_node(Pulled(pushed.node, remote, FetchedModel(pushed.path, pushed.size, pushed.mtime)))

    try:
        found, unreachable = await stores.store_contents(pool, [origin])
        if unreachable:
            raise unreachable[origin]
        there = [model for contents in found for model in contents.models if model.path == path]
        if not there:
            raise ModelNotFound(
                f"{path} is gone from node {origin!r}", details={"node": origin, "path": path}
            )
        return await spread(pool, there[0], tuple(rest), tell)
    except RbeeError as error:
        return dict.fromkeys(rest, error)


async def resolve(pool: ConnectionPool, ref: HubRef | UrlRef) -> Remote:
    """What the reference means now; remembered, so that `infer` need not ask.

    Raises:
        RbeeError: see sources.resolve.
    """
    remote = await sources.resolve(ref, pool.inventory.timeouts, pool.reporter)
    await pool.registry.off_loop(pool.registry.put_facts, memo_key(ref), remote.memo())
    return remote


async def resolve_or_find(pool: ConnectionPool, ref: HubRef | UrlRef, nodes: Sequence[str]) -> Remote:
    """As `resolve`; when nobody answers, what a node has of it by the notes in its store, which is said.

    Raises:
        RbeeError: as `resolve`, where no node has it either, or several models could be meant.
    """
    try:
        return await resolve(pool, ref)
    except DownloadFailed as error:
        from rbee_ssh.library.stores import copies

        with contextlib.suppress(ModelNotFound, ModelAmbiguous):
            found, _ = await copies(pool, ref.display, nodes)
            if whole := [model for model in found if model.whole]:
                model = whole[0]
                pool.reporter.warn(f"{error.message}; {model.node} has {model.name}, which is used")
                files = [RemoteFile(f.note.source, f.place, f.size, f.note.sha256) for f in model.files]
                return Remote(ref, model.note.source, model.note.revision, tuple(files), protected=True)
        raise
