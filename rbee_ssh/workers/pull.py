"""`models pull`: a model of the hub or of a URL, to several nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import RbeeError, UsageInvalid
from rbee_ssh.models import pull as pulls
from rbee_ssh.models import sources
from rbee_ssh.models.fetch import Fetched
from rbee_ssh.models.reference import parse_reference
from rbee_ssh.models.refs import HubRef, UrlRef
from rbee_ssh.models.remote import Remote, memo_key
from rbee_ssh.workers.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is on a node now, or on its way."""

    node: str
    remote: Remote
    fetched: Fetched


async def pull(
    fleet: Fleet,
    reference: str,
    nodes: Sequence[str],
    on_node: Callable[[Pulled], None],
    *,
    via_here: bool = False,
    detach: bool = False,
) -> dict[str, RbeeError]:
    """Bring a model to these nodes, one after the other; the nodes where that failed, with the reason.

    Raises:
        UsageInvalid: the reference names a file of a node or of this machine.
        RbeeError: the hub or the server; see sources.resolve.
    """
    ref, _ = parse_reference(reference, fleet.inventory)
    if not isinstance(ref, HubRef | UrlRef):
        raise UsageInvalid(
            f"{ref.display} is a file already; pull takes hf:… and https:…",
            hint="rbee models pull hf:ORG/REPO:QUANT",
        )
    remote = await resolve(fleet, ref)
    failed: dict[str, RbeeError] = {}
    for name in nodes:
        node = inventories.node(fleet.inventory, name)
        try:
            connection = await fleet.connect(name)
            got = await pulls.pull(
                connection,
                remote,
                node.models_dir,
                fleet.registry,
                fleet.story,
                via_here=via_here,
                detach=detach,
            )
            on_node(Pulled(name, remote, got))
        except RbeeError as error:
            if len(nodes) == 1:
                raise
            failed[name] = error
    return failed


async def resolve(fleet: Fleet, ref: HubRef | UrlRef) -> Remote:
    """What the reference means now; remembered, so that `infer` need not ask.

    Raises:
        RbeeError: see sources.resolve.
    """
    remote = await sources.resolve(ref, fleet.inventory.timeouts, fleet.story)
    fleet.registry.put_facts(memo_key(ref), remote.memo())
    return remote
