"""A file of this room replaced by its changed content: under a lock, whole, its mode kept."""

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

from rbee_ssh.errors import InventoryLocked

PATIENCE = 10.0  # seconds: whoever holds the lock needs milliseconds
_PAUSE = 0.02


def rewrite(path: Path, content: Callable[[], bytes]) -> None:
    """Put what `content` returns at `path`. It is called, perhaps twice, while the file is locked (flock).

    Where there is no file yet, it is made, 0600, and its directory too.

    Args:
        path: no symbolic link, which would be replaced.

    Raises:
        InventoryLocked: another command held it for PATIENCE seconds.
        OSError: it cannot be written. What was there is still.
        RbeeError: whatever `content` raises; likewise.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        with _locked(path) as descriptor:
            after = content()
            if descriptor is None:
                _make(path)  # empty: and once more, now that there is something to be locked
                continue
            if after != _content(descriptor):
                _replace(path, after, os.fstat(descriptor))
            return


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


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
                        f"another command holds {path}, waited {PATIENCE:g} s",
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
