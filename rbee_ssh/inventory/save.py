"""The inventory's file, replaced by its changed text: whole, its mode kept, nobody's change lost."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rbee_ssh.errors import DiskFull, InventoryInvalid, InventoryLocked, RbeeError, UsageInvalid
from rbee_ssh.inventory import find
from rbee_ssh.inventory.find import InventorySource
from rbee_ssh.inventory.types import Inventory

PATIENCE = 10.0  # seconds: whoever holds the lock needs milliseconds
_PAUSE = 0.02
_BOM = b"\xef\xbb\xbf"


def save(draft: InventorySource, change: Callable[[str], str]) -> Inventory:
    """Replace the inventory by what `change` makes of its text, which it is handed as it stands now.

    A symbolic link is followed. Where there is no file yet, it is made, and its directory too. The file is
    locked (flock) from the reading to the renaming; an editor knows nothing of that.

    Returns:
        What the new text says. It has been parsed before it was written.

    Raises:
        InventoryInvalid: the new text has faults, or the file cannot be written. What was there is still.
        InventoryUntrusted: as when it is read.
        InventoryLocked: another command held it for PATIENCE seconds.
        UsageInvalid: there is no place for it.
        DiskFull: what was there is still.
        RbeeError: whatever `change` raises.
    """
    if draft.path is None:
        raise UsageInvalid("there is no home directory for an inventory: name one with --inventory")
    path = Path(os.path.realpath(draft.path))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with _locked(path) as descriptor:
                text = find.read(draft) or ""
                changed = change(text)
                inventory = draft.inventory(changed)
                if descriptor is None:
                    _make(path)  # empty: and once more, now that there is something to be locked
                    continue
                if changed != text:
                    mark = _BOM if os.pread(descriptor, len(_BOM), 0) == _BOM else b""
                    _replace(path, mark + changed.encode(), os.fstat(descriptor))
                return inventory
    except OSError as error:
        raise _failed(draft, error) from error


def _failed(draft: InventorySource, error: OSError) -> RbeeError:
    details = {"file": draft.file, "errno": error.errno}
    message = f"the inventory {draft.file} cannot be written: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(message, details=details)
    parent = shlex.quote(str(draft.path.parent if draft.path else "."))
    return InventoryInvalid(message, hint=f"ls -la {parent}", details=details)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The file at `path`, locked; None when there is none.

    Raises:
        InventoryLocked: another command has it.
        OSError: it is not ours to write, or no file.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            # O_NONBLOCK: a FIFO that nobody reads would hold us for ever.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            while not _taken(descriptor):
                if time.monotonic() >= end:
                    raise InventoryLocked(
                        f"the inventory is held by another command, waited {PATIENCE:g} s for {path}",
                        hint=f"see who has it open: fuser -v {shlex.quote(str(path))}",
                        details={"path": str(path), "waited_seconds": PATIENCE},
                    )
                time.sleep(_PAUSE)
            # Whoever held it has put another file in its place, and a lock on this one keeps nobody out.
            if _stands(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _make(path: Path) -> None:
    """An empty file, 0600 whatever the umask says: it is to name machines, users and keys."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _replace(path: Path, content: bytes, before: os.stat_result) -> None:
    temporary = _written(path, content)
    try:
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            with contextlib.suppress(PermissionError):
                os.chown(temporary, before.st_uid, before.st_gid)
        os.chmod(temporary, stat.S_IMODE(before.st_mode))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _written(path: Path, content: bytes) -> Path:
    """A file beside `path` with this content, 0600, safe on the disk."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def _settle(directory: Path) -> None:
    """The directory's new entry on the disk, too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
