"""What an inventory may not do that was found in the current directory and not named by the user.

Somebody else may have put it there: a cloned repository, an unpacked archive. It may describe machines, but
it may not run anything of its own on this one.
"""

from __future__ import annotations

import ipaddress
import shlex
import socket
import stat
from collections.abc import Collection, Mapping
from typing import Any

from rbee_ssh.errors import InventoryUntrusted
from rbee_ssh.inventory.syntax import Fault, Where, described, details
from rbee_ssh.inventory.types import Inventory, Node
from rbee_ssh.wording import quoted

# Each decides which program runs, or what it loads: LD_PRELOAD in env, --log-file in an argument.
_LOCAL_ONLY = ("engine_path", "python", "env")
# As the hosts files of the common systems have them.
_LOOPBACK_NAMES = (
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
)


def is_this_machine(node: Node, names: Collection[str]) -> bool:
    """Whether `host` says this machine, in any of the ways that need no name server.

    Asked more widely than `Node.embedded`: 127.0.0.1 with the user's own key reaches this machine too. An
    alias of ssh_config is not looked up; it is the user's own word for a machine.

    Args:
        names: what this machine calls itself.
    """
    host = node.host.lower().rstrip(".").partition("%")[0]
    if host in _LOOPBACK_NAMES or host.endswith(".localhost") or host in {name.lower() for name in names}:
        return True
    try:
        # inet_aton takes what connect() takes: 127.1, 0x7f000001, 0.
        address = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))
    except (ValueError, OSError):
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any(known.is_loopback or known.is_unspecified for known in (address, mapped) if known)


def forbidden(
    document: Mapping[str, Any], inventory: Inventory, names: Collection[str]
) -> list[tuple[Where, str]]:
    """The settings that only a named inventory may make, as key path and reason.

    Args:
        document: what `inventory` was built from, valid.
        names: what this machine calls itself.
    """
    defaults: Mapping[str, Any] = document.get("defaults", {})
    tables: Mapping[str, Mapping[str, Any]] = document.get("nodes", {})
    places: list[tuple[Where, Mapping[str, Any]]] = [(("defaults",), defaults)]
    places += [(("nodes", name), table) for name, table in tables.items()]
    found: list[tuple[Where, str]] = [
        ((*where, "setup"), "runs Python on this machine") for where, table in places if "setup" in table
    ]
    local = [node for node in inventory.nodes.values() if is_this_machine(node, names)]
    if not local:
        return found
    for key in _LOCAL_ONLY:
        reason = "decides what runs on this machine"
        if key in defaults:
            found.append((("defaults", key), f"{reason}, as node {quoted(local[0].name)}"))
        found += [(("nodes", node.name, key), reason) for node in local if key in tables.get(node.name, {})]
    found += [
        (("models", name, "args"), f"reaches an engine on this machine, node {quoted(local[0].name)}")
        for name, preset in inventory.models.items()
        if preset.args
    ]
    return found


def owner_problem(mode: int, owner: int, link_owner: int, user: int) -> str | None:
    """Why a found file is not this user's own word, None when it is. Arguments as os.stat has them.

    Args:
        link_owner: who owns the directory entry itself, where that is a symbolic link.
    """
    if not stat.S_ISREG(mode):
        return "it is not a regular file"
    for uid in (owner, link_owner):
        if uid != user:
            return f"it belongs to user id {uid}, not to you ({user})"
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write it (mode {stat.S_IMODE(mode):04o})"
    return None


def untrusted(file: str, problem: str, faults: list[Fault]) -> InventoryUntrusted:
    """The error for a found inventory; what to type is to name it, once it has been read."""
    listed = "\n" + described(file, faults) if faults else ""
    return InventoryUntrusted(
        f"{file} was found here, not named, and {problem}{listed}",
        hint=f"read it, then name it: rbee --inventory {shlex.quote(file)} …",
        details=details(file, faults) if faults else {"file": file},
    )
