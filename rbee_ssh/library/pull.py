"""`models pull`: a model of the hub or of a URL, to several nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ChecksumMismatch, RbeeError, UsageInvalid
from rbee_ssh.library import stores
from rbee_ssh.library.push import Pushed
from rbee_ssh.library.remote_reference import resolve
from rbee_ssh.library.replicate import Handed, spread
from rbee_ssh.models import obtain as pulls
from rbee_ssh.models.fetch import FetchedModel
from rbee_ssh.models.known_sums import Belonging
from rbee_ssh.models.reference import HubRef, LocalFileRef, NodeFileRef, UrlRef, parse_reference
from rbee_ssh.models.remote import Remote
from rbee_ssh.models.store import Note
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.wording import listed


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
    # Where nobody tells a SHA-256, one node could hand anything on to the others.
    once = len(nodes) > 1 and remote.proven and not (via_here or detach)
    failed: dict[str, RbeeError] = {}
    waiting = await _nearest_first(pool, remote, nodes) if once else list(nodes)
    while waiting:
        name = waiting.pop(0)
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
        if once and (rest := [*failed, *waiting]):
            lost, again = await _hand_on(pool, remote, name, got.path, rest, on_node)
            # Who could not fetch it has it now, or is given it by the next one.
            waiting = [other for other in waiting if other in again]
            failed = {other: error for other, error in (failed | lost).items() if other in lost | again}
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
) -> tuple[dict[str, RbeeError], dict[str, RbeeError]]:
    """From the node that has it now to others, those without a way to the internet among them.

    Returns:
        The nodes where that failed, with the reason; and those to which another node has to hand it on, since
        this one was lost, or what it sends is something else.
    """
    rest = list(nodes)

    def tell(pushed: Pushed) -> None:
        rest.remove(pushed.node)
        on_node(Pulled(pushed.node, remote, FetchedModel(pushed.path, pushed.size, pushed.mtime)))

    # Of that node's words only the path counts, on itself.
    directory = path.rpartition("/")[0]
    files = [
        Handed(
            f"{directory}/{file.name}",
            Belonging(file.place, Note(remote.source, remote.revision)),
            file.size or 0,
            file.sha256 or "",
        )
        for file in remote.files
    ]
    try:
        failed = await spread(pool, origin, files, tuple(nodes), tell)
    except RbeeError as error:
        pool.reporter.warn(f"{error.message}; {listed(rest)} cannot have it from there")
        return {}, dict.fromkeys(rest, error)
    # Not where another file has its place (receiver.taken).
    wrong = {
        name: error
        for name, error in failed.items()
        if isinstance(error, ChecksumMismatch) and "got" in error.details
    }
    if wrong:
        pool.reporter.warn(
            f"what {origin} hands on of {remote.name} is not what {remote.ref.display} is; "
            f"{listed(list(wrong))} cannot have it from there"
        )
    return {name: error for name, error in failed.items() if name not in wrong}, dict[str, RbeeError](wrong)
