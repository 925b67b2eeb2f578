"""The lock every transaction takes: flock on a file that is never renamed, signed by its holder."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rbee_ssh.errors import RegistryLocked

if TYPE_CHECKING:
    from rbee_ssh.reporter import Reporter

SAY_AFTER = 1.0  # seconds of waiting before the user is told what for
log = logging.getLogger("rbee.registry")


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who signed the lock last."""

    pid: int
    host: str
    command: str


def parse_holder(text: str) -> LockHolder | None:
    """The signature in a lock file: `PID HOST COMMAND`; None when it is not one."""
    words = text.strip().split(" ", 2)
    if len(words) != 3 or not (words[0].isascii() and words[0].isdigit()):
        return None
    return LockHolder(int(words[0]), words[1], words[2])


def refusal(path: Path, holder: LockHolder | None, here: str, waited: float) -> RegistryLocked:
    """The error of a lock that was not given up in `waited` seconds; `here` is this machine's host name."""
    if holder is None:
        who, hint = "another command", f"see who has it open: fuser -v {path}"
    elif holder.host != here:
        who = f"process {holder.pid} on {holder.host} ({holder.command})"
        hint = f"on {holder.host}: ps -o pid,etime,args -p {holder.pid}"
    else:
        who = f"process {holder.pid} ({holder.command})"
        hint = f"see what it is doing: ps -o pid,etime,args -p {holder.pid}"
    return RegistryLocked(
        f"the registry is held by {who}, waited {waited:g} s for {path}",
        hint=hint,
        details={
            "path": str(path),
            "pid": holder.pid if holder else None,
            "host": holder.host if holder else None,
            "command": holder.command if holder else None,
            "waited_seconds": waited,
        },
    )


@contextmanager
def locked(path: Path, *, shared: bool, timeout: float, reporter: Reporter, command: str) -> Iterator[None]:
    """Holds the lock at `path` while the block runs.

    Args:
        shared: several readers may hold it at once.
        timeout: seconds to wait for other holders.
        command: what this process calls itself in the lock file; no arguments, they may hold a prompt.

    Raises:
        RegistryLocked: it was held all that time.
        OSError: the lock file cannot be made or opened.
    """
    descriptor = _acquire(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, timeout, reporter)
    try:
        _sign(descriptor, command)
        yield
    finally:
        os.close(descriptor)


def _acquire(path: Path, mode: int, timeout: float, reporter: Reporter) -> int:
    began = time.monotonic()
    said = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_flock(descriptor, mode):
                waited = time.monotonic() - began
                if waited >= timeout:
                    raise refusal(path, _holder(descriptor), _here(), timeout)
                if waited >= SAY_AFTER and not said:
                    said = True
                    reporter.say("waiting for another command to let go of the registry")
                # Uneven pauses, so that sixteen waiting commands do not knock in step.
                time.sleep(0.001 + 0.019 * os.urandom(1)[0] / 255)
            # Whoever deletes the state directory takes the lock file with it. A lock on a deleted file
            # would keep nobody out.
            if _is_at(descriptor, path):
                log.debug("lock had after %.0f ms", (time.monotonic() - began) * 1000)
                kept, descriptor = descriptor, -1
                return kept
        finally:
            if descriptor >= 0:
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


def _sign(descriptor: int, command: str) -> None:
    signature = f"{os.getpid()} {_here()} {command}\n".encode()
    os.pwrite(descriptor, signature, 0)
    os.ftruncate(descriptor, len(signature))


def _holder(descriptor: int) -> LockHolder | None:
    holder = parse_holder(os.pread(descriptor, 4096, 0).decode(errors="replace"))
    if holder is None or (holder.host == _here() and not _alive(holder.pid)):
        return None  # the last to sign has gone: one of several readers, or killed before the next signed
    return holder


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _here() -> str:
    return os.uname().nodename
