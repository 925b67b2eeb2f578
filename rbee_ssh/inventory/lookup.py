"""Questions to an inventory that has been read."""

from __future__ import annotations

import shlex

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


def by_tag(inventory: Inventory, tag: str) -> tuple[Node, ...]:
    """The nodes that carry `tag`, in the inventory's order; none is no error here."""
    return tuple(found for found in inventory.nodes.values() if tag in found.tags)


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
