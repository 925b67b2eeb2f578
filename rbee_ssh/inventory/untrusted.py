"""What an inventory may set that was found in the current directory, not named by the user and not allowed.

Somebody else may have put it there: a cloned repository, an unpacked archive. It may name models and machines
that ssh knows, and say how long is waited. Which code runs where, as whom one logs in and by which way is for
the user to decide.
"""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping
from typing import Any

from rbee_ssh.errors import InventoryUntrusted
from rbee_ssh.inventory import schema
from rbee_ssh.inventory.faults import described, details
from rbee_ssh.inventory.lines import lines
from rbee_ssh.inventory.readers import Fault, Where

# Everything else is refused. Whoever adds a key decides it here, and in the test over the whole schema. A key
# that starts a program, a listener or a process does not belong here, nor one that is handed to an engine.
_NODE = frozenset({"host", "tags", "engine", "backend", "device", "lease"})
FOUND_MAY: Mapping[str, frozenset[str]] = {
    "defaults": _NODE | {"model", "idle_timeout"},
    "nodes": _NODE,
    "models": frozenset({"source", "context", "parallel"}),
    "timeouts": frozenset(schema.TIMEOUTS),  # numbers, all of them
}
DECIDES = {
    "engine_path": "which program runs",
    "python": "which program runs",
    "env": "what a program loads and does",
    "args": "what an engine loads, writes and does",
    "setup": "what runs on this machine",
    "user": "as whom one logs in",
    "identity_file": "as whom one logs in",
    "jump": "by which way a machine is reached",
    "port": "by which way a machine is reached",
    "listen": "who can connect to a worker",
    "models_dir": "where models are read and written",
}


def decided(document: Mapping[str, Any]) -> list[tuple[Where, str]]:
    """The settings that a found inventory may make only when it is allowed: key path, and what it decides.

    Args:
        document: a valid inventory.
    """
    found: list[tuple[Where, str]] = []
    for section, content in document.items():
        named = section in ("nodes", "models")
        tables = (
            {(section, name): table for name, table in content.items()} if named else {(section,): content}
        )
        may = FOUND_MAY.get(section, frozenset())
        found += [
            ((*where, key), DECIDES.get(key, "more than a found inventory may"))
            for where, table in tables.items()
            for key in table
            if key not in may
        ]
    return found


def set_too_much(document: Mapping[str, Any], text: str) -> list[Fault]:
    """The same with their lines in `text`, from top to bottom."""
    if not (found := decided(document)):
        return []
    where = lines(text)
    faults = [Fault(key, f"decides {what}", where.get(key)) for key, what in found]
    return sorted(faults, key=lambda fault: fault.line or 0)


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
    """The error for a found inventory. What to type is to allow it, or, where that is no way, to name it."""
    listed = "\n" + described(file, faults) if faults else ""
    named = f"rbee --inventory {shlex.quote(file)} …"
    return InventoryUntrusted(
        f"{file} was found here, not named, and {problem}{listed}",
        hint=f"read it, then: rbee inventory allow   # or {named}"
        if faults
        else f"read it, then name it: {named}",
        details=details(file, faults) if faults else {"file": file},
    )
