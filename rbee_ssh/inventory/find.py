"""Where the inventory is, and the bytes of it."""

from __future__ import annotations

import errno
import os
import shlex
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from rbee_ssh.errors import InventoryInvalid, InventoryNotFound
from rbee_ssh.inventory.faults import Fault, invalid
from rbee_ssh.inventory.lines import lines
from rbee_ssh.inventory.parse import build, parse
from rbee_ssh.inventory.syntax import load_toml
from rbee_ssh.inventory.trust import forbidden, owner_problem, untrusted
from rbee_ssh.inventory.types import Inventory
from rbee_ssh.wording import quoted

NAME = "inventory.toml"
FOUND = f"./{NAME}"
LARGEST = 512 * 1024  # bytes: thousands of nodes; a model given by mistake is not read into memory
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def load(
    named: Path | None, *, environ: Mapping[str, str], cwd: Path, warn: Callable[[str], None]
) -> Inventory:
    """The inventory: `named`, else RBEE_INVENTORY, else ./inventory.toml, else the user's, else localhost.

    Args:
        named: what `--inventory` says.
        environ: RBEE_INVENTORY, XDG_CONFIG_HOME and HOME are looked at.
        warn: told about an inventory that was found in `cwd` and not named.

    Raises:
        InventoryNotFound: `named` or RBEE_INVENTORY names no file.
        InventoryInvalid: it cannot be read, is not an inventory, or has faults.
        InventoryUntrusted: the one in `cwd` is not the user's own, or does what only a named one may.
    """
    home = Path(environ["HOME"]) if environ.get("HOME", "").startswith("/") else _home()
    if named is not None:
        return _load_named(named, "--inventory", cwd, home)
    if environ.get("RBEE_INVENTORY"):
        return _load_named(Path(environ["RBEE_INVENTORY"]), "RBEE_INVENTORY", cwd, home)
    users = users_path(environ, home)
    # Whoever stands in ~/.config/rbee has not found a stranger's file there.
    if cwd / NAME != users and (found := _load_found(cwd / NAME, home, warn)):
        return found
    if users is not None and (data := _read(users, str(users))) is not None:
        return parse(_text(data, str(users)), users, home=home)
    return parse("", None)


def users_path(environ: Mapping[str, str], home: Path | None) -> Path | None:
    """${XDG_CONFIG_HOME:-~/.config}/rbee/inventory.toml; None where there is no home.

    A relative XDG_CONFIG_HOME is ignored, as the XDG base directory specification wants it.
    """
    config = environ.get("XDG_CONFIG_HOME", "")
    if config.startswith("/"):
        return Path(config) / "rbee" / NAME
    return home / ".config" / "rbee" / NAME if home else None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        # Neither HOME nor an entry in the password database: a container with a number for a user.
        return None


def _load_named(named: Path, by: str, cwd: Path, home: Path | None) -> Inventory:
    if home and named.parts[:1] == ("~",):
        named = home.joinpath(*named.parts[1:])
    path = cwd / named
    data = _read(path, str(named))
    if data is None:
        raise InventoryNotFound(
            f"{by} names {quoted(str(named), 500)}, which does not exist",
            hint=f"ls -l {shlex.quote(str(path.parent))}",
            details={"path": str(path), "named_by": by},
        )
    return parse(_text(data, str(named)), path, file=str(named), home=home)


def _load_found(path: Path, home: Path | None, warn: Callable[[str], None]) -> Inventory | None:
    data = _read(path, FOUND, check=True)
    if data is None:
        return None
    warn(f"using {FOUND}, found in {path.parent} and not named")
    text = _text(data, FOUND)
    document = load_toml(text, FOUND)
    inventory = build(document, text, path, file=FOUND, home=home)
    short = socket.gethostname().partition(".")[0]
    if wrong := forbidden(document, inventory, {socket.gethostname(), short, f"{short}.local"}):
        where = lines(text)
        faults = [Fault(key, reason, where.get(key)) for key, reason in wrong]
        raise untrusted(FOUND, "sets what only a named inventory may", faults)
    return inventory


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
        raise invalid(file, [Fault((), f"expected at most {LARGEST // 1024} KiB")])
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
        raise invalid(file, [Fault((), "expected UTF-8 text", line)]) from error
