"""Jump hosts that lead back to where they started."""

from __future__ import annotations

from collections.abc import Mapping

from rbee_ssh.inventory.types import Node


def circles(nodes: Mapping[str, Node]) -> list[tuple[str, ...]]:
    """Every way through jump hosts that comes back to its start, as ("a", "b", "a"); each once.

    A hop is followed where it is a node's name; ssh_config's aliases are not looked into. The hops of one
    list are opened each through the one before it, so only the first one's own `jump` is ever used.
    """
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in nodes:
        # A stack of our own: a chain of thousands of nodes must not end in Python's recursion limit.
        way: dict[str, None] = {}
        ahead = [iter((start,))]
        while ahead:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                if way:
                    done.add(way.popitem()[0])
            elif name in way:
                ring = list(way)
                found.append((*ring[ring.index(name) :], name))
            elif name in nodes and name not in done:
                way[name] = None
                jump = nodes[name].jump
                own = (hop for hop in jump[1:] if hop == name)
                ahead.append(iter(dict.fromkeys([*jump[:1], *own])))
    return found
