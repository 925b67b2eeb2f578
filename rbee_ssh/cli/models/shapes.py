"""The JSON that the commands of `models` print. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rbee_ssh.cli.shapes import shape, unreachable
from rbee_ssh.errors import RbeeError

if TYPE_CHECKING:
    from rbee_ssh.library.push import Pushed
    from rbee_ssh.library.stores import Removal, Verification
    from rbee_ssh.models.node_store import NodeStore, StoredModel


def pushed(done: Iterable[Pushed], failed: Mapping[str, RbeeError]) -> dict[str, Any]:
    """`models push` and `models copy`."""
    return {
        "models": [shape(one, "node path sha256 size") for one in done],
        "failed": unreachable(failed),
    }


def model(one: StoredModel) -> dict[str, Any]:
    """A model in the store of a node. Times are Unix seconds."""
    return {
        **shape(one, "id node name path"),
        "files": [f"{one.store}/{file.place}" for file in one.files],
        **shape(one, "size whole sha256"),
        "source": one.note.source or None,
        **shape(one.note, "revision told_by architecture"),
        "quant": one.quant,
        **shape(one.note, "parameters context fetched"),
        **shape(one, "verified differs last_used"),
    }


def listed(found: Iterable[NodeStore], silent: Mapping[str, RbeeError]) -> dict[str, Any]:
    """`models list`."""
    store_contents = list(found)
    return {
        "models": [model(one) for contents in store_contents for one in contents.models],
        "partial": [
            {"node": contents.node, "path": f"{contents.store}/{part.place}", "size": part.size}
            for contents in store_contents
            for part in contents.parts
        ],
        "unreachable": unreachable(silent),
    }


def verified(verdicts: Iterable[Verification], silent: Mapping[str, RbeeError]) -> dict[str, Any]:
    """`models verify`."""
    return {
        "models": [{**model(verdict.model), "state": verdict.state} for verdict in verdicts],
        "unreachable": unreachable(silent),
    }


def removed(done: Removal, *, dry_run: bool = False) -> dict[str, Any]:
    """`models rm` and `models prune`. With a dry run nothing was removed, and that is said, too."""
    return ({"dry_run": True} if dry_run else {}) | {
        "removed": [model(one) for one in done.removed],
        "kept": [model(one) for one in done.kept],
        "in_use": [{**model(one), "users": list(users)} for one, users in done.mapped],
        "partial": [{"node": node, "place": place, "size": size} for node, place, size in done.parts],
        "unreachable": unreachable(done.unreachable),
    }
