"""Files that several commands write: locked while one of them does, and replaced in one piece."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WAIT_NOTICE = 1.0  # seconds of waiting before the user is told what for


class Held(Exception):
    """Others had the lock of a file for as long as it was waited for; with the beginning of its text."""


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    timeout: float,
    create: bool = False,
    shared: bool = False,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[int]:
    """The open file at `path`, its lock (flock) held while the block runs.

    Args:
        timeout: seconds to wait for whoever holds it.
        create: make the file where there is none, 0600.
        shared: several readers may hold it at once.
        on_wait: called once, after WAIT_NOTICE seconds.

    Raises:
        Held: it was not given up.
        OSError: it is not ours to open, or no regular file.
    """
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    # O_NONBLOCK: a FIFO that nobody reads would hold us for ever.
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    began = time.monotonic()
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            while not _try_flock(descriptor, mode):
                waited = time.monotonic() - began
                if waited >= timeout:
                    raise Held(os.pread(descriptor, 4096, 0).decode(errors="replace"))
                if on_wait is not None and waited >= WAIT_NOTICE:
                    on_wait()
                    on_wait = None
                # Uneven pauses, so that sixteen waiting commands do not knock in step.
                time.sleep(0.001 + 0.019 * os.urandom(1)[0] / 255)
            # Another file may have been put in its place, or it was deleted. A lock on what is not there any
            # more keeps nobody out.
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _try_flock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def replace_file(path: Path, content: bytes, like: os.stat_result | None = None) -> None:
    """Put `content` at `path`, so that a reader finds the old or the new whole, power cut included.

    What a writer that was killed has left is removed: whoever calls holds a lock, and is the only one.

    Args:
        like: of the file that is replaced, whose mode and owner the new one is given; else it is 0600.

    Raises:
        OSError: nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if like is not None:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.chown(temporary, like.st_uid, like.st_gid)
            os.chmod(temporary, stat.S_IMODE(like.st_mode))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
