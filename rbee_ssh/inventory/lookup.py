"""Questions to an inventory that has been read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rbee_ssh.errors import KeyNotFound, NodeUnknown
from rbee_ssh.inventory.types import Inventory, Node
from rbee_ssh.wording import listed, nearest, quoted


def node(inventory: Inventory, name: str) -> Node:
    """The node of that name.

    Raises:
        NodeUnknown: names the known ones and the nearest.
    """
    if name in inventory.nodes:
        return inventory.nodes[name]
    near = nearest(name, inventory.nodes)
    where = inventory.path or "the built-in inventory"
    question = f"; did you mean {quoted(near)}?" if near else ""
    raise NodeUnknown(
        f"no node {quoted(name)} in {where}, which has {listed(inventory.nodes)}{question}",
        hint="rbee nodes list"
        if inventory.path
        else f'put it into ~/.config/rbee/inventory.toml:\n[nodes.{name}]\nhost = "an address or ssh alias"',
        details={"node": name, "known": list(inventory.nodes), "nearest": near},
    )


def select(inventory: Inventory, names: Sequence[str] = (), tags: Sequence[str] = ()) -> tuple[Node, ...]:
    """The nodes of these names and those that carry one of these tags, each once; all when neither is given.

    Those named come first, in the order given, then those with a tag in the inventory's order.

    Raises:
        NodeUnknown: a name or a tag that the inventory does not have; says which there are.
    """
    if not names and not tags:
        return tuple(inventory.nodes.values())
    named = [node(inventory, name) for name in names]
    all_tags = sorted({tag for node in inventory.nodes.values() for tag in node.tags})
    for tag in tags:
        if tag not in all_tags:
            raise _unknown_tag(inventory, tag, all_tags)
    tagged = [node for node in inventory.nodes.values() if not set(tags).isdisjoint(node.tags)]
    return tuple({node.name: node for node in (*named, *tagged)}.values())


def _unknown_tag(inventory: Inventory, tag: str, known: Sequence[str]) -> NodeUnknown:
    near = nearest(tag, known)
    where = inventory.path or "the built-in inventory"
    there = f"which has the tags {listed(known)}" if known else "which has no tags at all"
    question = f"; did you mean {quoted(near)}?" if near else ""
    return NodeUnknown(
        f"no node with the tag {quoted(tag)} in {where}, {there}{question}",
        hint="rbee nodes list",
        details={"tag": tag, "known_tags": list(known), "nearest": near},
    )


def check_keys(node: Node) -> None:
    """Look whether the node's key file is there; called before connecting, so that listing needs no key.

    Raises:
        KeyNotFound: there is no such file.
    """
    path = node.identity_file
    if path is None or path.is_file():
        return
    what = "is not a file" if path.exists() else "does not exist"
    raise KeyNotFound(
        f"identity_file of node {quoted(node.name)} {what}: {path}",
        hint=f"ls -l {shlex.quote(str(path.parent))}",
        details={"node": node.name, "path": str(path)},
    )
