"""A file of this room replaced by its changed content: under a lock, whole, its mode kept."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from rbee_ssh.errors import InventoryLocked
from rbee_ssh.files import Held, locked, replace_file

PATIENCE = 10.0  # seconds: whoever holds the lock needs milliseconds


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
    if not path.exists():
        content()  # before an empty file is left behind
        # 0600 whatever the umask says: it is to name machines, users and keys.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with locked(path, timeout=PATIENCE) as descriptor:
            before = os.fstat(descriptor)
            after = content()
            if after != os.pread(descriptor, before.st_size, 0):
                replace_file(path, after, like=before)
    except Held:
        raise InventoryLocked(
            f"another command holds {path}, waited {PATIENCE:g} s",
            hint=f"see who has it open: fuser -v {shlex.quote(str(path))}",
            details={"path": str(path), "waited_seconds": PATIENCE},
        ) from None
