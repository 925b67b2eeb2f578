"""The lock every transaction takes: flock on a file that is never renamed, signed by its holder."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh import files
from rbee_ssh.errors import RegistryLocked

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
def locked(
    path: Path, *, shared: bool, timeout: float, say: Callable[[str], None], command: str
) -> Iterator[None]:
    """Holds the lock at `path` while the block runs.

    Args:
        shared: several readers may hold it at once.
        timeout: seconds to wait for other holders.
        say: told that it is waited.
        command: what this process calls itself in the lock file; no arguments, they may hold a prompt.

    Raises:
        RegistryLocked: it was held all that time.
        OSError: the lock file cannot be made or opened.
    """

    def on_wait() -> None:
        say("waiting for another command to let go of the registry")

    began = time.monotonic()
    try:
        with files.locked(path, timeout=timeout, create=True, shared=shared, on_wait=on_wait) as descriptor:
            log.debug("lock had after %.0f ms", (time.monotonic() - began) * 1000)
            signature = f"{os.getpid()} {_here()} {command}\n".encode()
            os.pwrite(descriptor, signature, 0)
            os.ftruncate(descriptor, len(signature))
            yield
    except files.Held as held:
        raise refusal(path, _holder(str(held)), _here(), timeout) from None


def _holder(signature: str) -> LockHolder | None:
    holder = parse_holder(signature)
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
