"""Which inventories the user has allowed: by path and content, so that a changed file has to be allowed anew.

The list stands beside the client id, not in the registry, which may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from rbee_ssh.errors import InventoryUntrusted
from rbee_ssh.inventory.untrusted import owner_problem
from rbee_ssh.places import state_directory

Listed = dict[str, list[str]]  # path → the SHA-256 of each content that is allowed there


class Allowed:
    """The list of what is allowed.

    Args:
        environ: says where it is, as it does for all of this user's state.

    Raises (every method):
        InventoryUntrusted: the list is not this user's own, or cannot be written.
        InventoryLocked: another command held it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._file = Path(state_directory(environ), "allowed.json")

    def holds(self, path: Path, content: bytes) -> bool:
        """Whether this content is allowed at this path."""
        return sha256(content) in self._read().get(key(path), [])

    def allow(self, path: Path, content: bytes) -> None:
        """Allow this content at this path, and no other there."""
        self._change(lambda listed: {**listed, key(path): [sha256(content)]})

    def follow(self, path: Path, before: bytes, after: bytes) -> None:
        """Allow `after`, which is about to replace `before`.

        That stays allowed too: another command may have read it just before, and look here just after.
        """
        both = [sha256(after), *([sha256(before)] if before else [])]
        self._change(lambda listed: {**listed, key(path): both})

    def deny(self, path: Path) -> bool:
        """Allow nothing at this path; whether something was."""
        was = key(path) in self._read()
        if was:
            self._change(lambda listed: {name: kept for name, kept in listed.items() if name != key(path)})
        return was

    def _read(self) -> Listed:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return {}
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if problem := owner_problem(about.st_mode, about.st_uid, about.st_uid, os.geteuid()):
                raise InventoryUntrusted(
                    f"{self._file} says which inventories are allowed, and {problem}",
                    hint=f"rm {shlex.quote(str(self._file))}",
                    details={"file": str(self._file)},
                )
            return parsed(file.read())

    def _change(self, change: Callable[[Listed], Listed]) -> None:
        from rbee_ssh.inventory.rewrite import rewrite

        try:
            rewrite(self._file, lambda: json.dumps(change(self._read()), indent=1).encode() + b"\n")
        except OSError as error:
            raise InventoryUntrusted(
                f"what is allowed cannot be remembered in {self._file}: {error.strerror}",
                hint=f"ls -ld {shlex.quote(str(self._file.parent))}",
                details={"file": str(self._file), "errno": error.errno},
            ) from error


def key(path: Path) -> str:
    """How the list calls a path. The last part stays what it is: paths in an inventory are relative to where
    it was found, wherever a symbolic link leads."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parsed(content: bytes) -> Listed:
    """The list out of its file; what is no such list allows nothing."""
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(listed, dict):
        return {}
    return {path: kept for path, kept in listed.items() if isinstance(kept, list)}
