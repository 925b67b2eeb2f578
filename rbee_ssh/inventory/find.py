"""Where the inventory is, and the bytes of it."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rbee_ssh.errors import InventoryInvalid, InventoryNotFound, UsageInvalid
from rbee_ssh.inventory.parse import build, load_toml, no_inventory, parse
from rbee_ssh.inventory.readers import Fault
from rbee_ssh.inventory.types import Inventory
from rbee_ssh.wording import quoted

if TYPE_CHECKING:
    from rbee_ssh.inventory.allowed import Allowed

NAME = "inventory.toml"
FOUND = f"./{NAME}"
LARGEST = 512 * 1024  # bytes: thousands of nodes; a model given by mistake is not read into memory
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class InventorySource:
    """An inventory as it stands, not yet understood; or the place where there is none yet.

    `path` is None where not even that is known: no home, and nothing named. `file` is how errors call it.
    `text` is None when there is no such file. `by` says who named it; it was `found` in the current directory
    when nobody did, and may then be `allowed` by the list.
    """

    path: Path | None
    file: str
    text: str | None
    home: Path | None
    by: str = ""
    found: bool = False
    environ: Mapping[str, str] | None = None  # says where the list is; None: it is not looked at
    allowed: bool = False

    def listed(self) -> Allowed | None:
        """What the user has allowed."""
        if self.environ is None:
            return None
        from rbee_ssh.inventory.allowed import Allowed

        return Allowed(self.environ)

    def inventory(self, text: str) -> Inventory:
        """What `text` says, when it stands in this place.

        Raises:
            InventoryInvalid: it has faults.
            InventoryUntrusted: it sets what one may not that was found, not named and not allowed.
        """
        inventory, faults = self.understood(text)
        if self.found and not self.allowed and faults:
            from rbee_ssh.inventory.untrusted import untrusted

            raise untrusted(self.file, "sets what has to be allowed", faults)
        return inventory

    def understood(self, text: str) -> tuple[Inventory, list[Fault]]:
        """What `text` says, and what of it has to be allowed where it is found. Raises InventoryInvalid."""
        document = load_toml(text, self.file)
        inventory = build(document, text, self.path, file=self.file, home=self.home)
        if not self.found:
            return inventory, []
        from rbee_ssh.inventory.untrusted import set_too_much

        return inventory, set_too_much(document, text)

    def keep_allowed(self, before: bytes, after: bytes) -> None:
        """Have what an edit of ours makes of an allowed file be allowed too; and of none, or an empty one.

        Raises as Allowed.
        """
        could_be_found = self.found or (self.by and self.path is not None and self.path.name == NAME)
        if self.path is None or not could_be_found or before == after:
            return
        listed = self.listed()
        if listed is not None and (not before or listed.holds(self.path, before)):
            listed.follow(self.path, before, after)


def load(
    named: Path | None, *, environ: Mapping[str, str], cwd: Path, warn: Callable[[str], None]
) -> Inventory:
    """The inventory: `named`, else RBEE_INVENTORY, else ./inventory.toml, else the user's, else localhost.

    Args:
        named: what `--inventory` says.
        environ: RBEE_INVENTORY, XDG_CONFIG_HOME, XDG_STATE_HOME and HOME are looked at.
        warn: told about an inventory that was found in `cwd`, not named and not allowed.

    Raises:
        InventoryNotFound: `named` or RBEE_INVENTORY names no file.
        InventoryInvalid: it cannot be read, is not an inventory, or has faults.
        InventoryUntrusted: the one in `cwd` is not the user's own, or sets what has to be allowed.
    """
    return understood(look(named, environ=environ, cwd=cwd, warn=warn))


def understood(draft: InventorySource) -> Inventory:
    """The second half of `load`."""
    if draft.text is not None:
        return draft.inventory(draft.text)
    if draft.path is not None and draft.by:
        raise InventoryNotFound(
            f"{draft.by} names {quoted(draft.file, 500)}, which does not exist",
            hint=f"ls -l {shlex.quote(str(draft.path.parent))}",
            details={"path": str(draft.path), "named_by": draft.by},
        )
    return parse("", None)


def look(
    named: Path | None, *, environ: Mapping[str, str], cwd: Path, warn: Callable[[str], None]
) -> InventorySource:
    """The first half of `load`: which file it is, and its text. Arguments and errors are as there.

    A file that is named and does not exist is no error here: it may be about to be made.
    """
    home = _home(environ)
    if named is not None:
        return read(_named(named, "--inventory", cwd, home, environ))[0]
    if environ.get("RBEE_INVENTORY"):
        return read(_named(Path(environ["RBEE_INVENTORY"]), "RBEE_INVENTORY", cwd, home, environ))[0]
    users = users_path(environ, home)
    # Whoever stands in ~/.config/rbee, or where links lead from there, has not found a stranger's file.
    if not _same(cwd / NAME, users):
        source, _ = read(InventorySource(cwd / NAME, FOUND, None, home, found=True, environ=environ))
        if source.text is not None:
            if not source.allowed:
                warn(f"using {FOUND}, found in {cwd} and not named")
            return source
    return read(InventorySource(users, str(users), None, home))[0]


def _same(one: Path, other: Path | None) -> bool:
    """Whether they are one file."""
    try:
        return other is not None and os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def findable(file: Path, *, environ: Mapping[str, str], cwd: Path) -> tuple[Path, bytes, list[Fault]]:
    """An inventory as whoever stands in its directory finds it: its path, its bytes, and what of it has to be
    allowed.

    Raises:
        UsageInvalid: a file of that name is never found.
        InventoryNotFound: there is none.
        InventoryInvalid, InventoryUntrusted: it has faults, or is not the user's own.
    """
    if file.name != NAME:
        raise UsageInvalid(
            f"only a file called {NAME} is ever found, not {quoted(str(file), 500)}",
            hint=f"name it: rbee --inventory {shlex.quote(str(file))} …",
        )
    path = cwd / file
    draft, content = read(InventorySource(path, str(file), None, _home(environ), found=True))
    if draft.text is None:
        raise InventoryNotFound(
            f"there is no {quoted(str(file), 500)}",
            hint=f"ls -l {shlex.quote(str(path.parent))}",
            details={"path": str(path)},
        )
    return path, content, draft.understood(draft.text)[1]


def users_path(environ: Mapping[str, str], home: Path | None) -> Path | None:
    """${XDG_CONFIG_HOME:-~/.config}/rbee/inventory.toml; None where there is no home.

    A relative XDG_CONFIG_HOME is ignored, as the XDG base directory specification wants it.
    """
    config = environ.get("XDG_CONFIG_HOME", "")
    if config.startswith("/"):
        return Path(config) / "rbee" / NAME
    return home / ".config" / "rbee" / NAME if home else None


def _home(environ: Mapping[str, str]) -> Path | None:
    if environ.get("HOME", "").startswith("/"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        # Neither HOME nor an entry in the password database: a container with a number for a user.
        return None


def _named(named: Path, by: str, cwd: Path, home: Path | None, environ: Mapping[str, str]) -> InventorySource:
    if home and named.parts[:1] == ("~",):
        named = home.joinpath(*named.parts[1:])
    return InventorySource(cwd / named, str(named), None, home, by=by, environ=environ)


def read(draft: InventorySource) -> tuple[InventorySource, bytes]:
    """The draft with what stands there now, and its bytes: no text and none when there is no such file.

    Raises:
        InventoryInvalid: it cannot be read, is too large, or is not text.
        InventoryUntrusted: it was found, and is not the user's own.
    """
    data = None if draft.path is None else _read(draft.path, draft.file, check=draft.found)
    if draft.path is None or data is None:
        return replace(draft, text=None, allowed=False), b""
    listed = draft.listed() if draft.found else None
    allowed = listed is not None and listed.holds(draft.path, data)
    return replace(draft, text=_text(data, draft.file), allowed=allowed), data


def _read(path: Path, file: str, *, check: bool = False) -> bytes | None:
    """The bytes of an inventory; None when there is no such file.

    Args:
        check: it was found, not named: it must be this user's own. The open file is asked, so that it cannot
            be exchanged after the look.
    """

    def opener(name: str, flags: int) -> int:
        # O_NONBLOCK: a FIFO that nobody writes to would hold us for ever.
        return os.open(name, flags | os.O_NONBLOCK if check else flags)

    try:
        with open(path, "rb", opener=opener) as opened:
            if check:
                from rbee_ssh.inventory.untrusted import owner_problem, untrusted

                about = os.fstat(opened.fileno())
                if problem := owner_problem(about.st_mode, about.st_uid, os.lstat(path).st_uid, os.geteuid()):
                    raise untrusted(file, problem, [])
            data = opened.read(LARGEST + 1)
    except OSError as error:
        if error.errno in _ABSENT or (check and not _searchable(path.parent)):
            return None
        raise InventoryInvalid(
            f"the inventory {quoted(file, 500)} cannot be read: {error.strerror}",
            hint=f"ls -ld {shlex.quote(str(path))}",
            details={"file": file, "errno": error.errno},
        ) from error
    except ValueError:
        return None  # a NUL in the name: no file has one
    if len(data) > LARGEST:
        raise no_inventory(file, f"expected at most {LARGEST // 1024} KiB")
    return data


def _searchable(directory: Path) -> bool:
    """False in a directory that is closed to us, as after `sudo -u`: nothing can be found there."""
    return os.access(directory, os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _text(data: bytes, file: str) -> str:
    try:
        # Some editors put a byte order mark in front, which TOML does not allow.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise no_inventory(file, "expected UTF-8 text", line) from error
