"""The inventory's file, replaced by its changed text: nobody's change lost, and as allowed as it was."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from rbee_ssh.errors import DiskFull, InventoryInvalid, RbeeError, UsageInvalid
from rbee_ssh.inventory.find import InventorySource, read
from rbee_ssh.inventory.rewrite import rewrite
from rbee_ssh.inventory.types import Inventory


def save(draft: InventorySource, change: Callable[[str], str]) -> Inventory:
    """Replace the inventory by what `change` makes of its text, which it is handed as it stands now.

    A symbolic link is followed. Where there is no file yet, it is made, and its directory too. The file is
    locked (flock) from the reading to the renaming; an editor knows nothing of that.

    One that was allowed still is, and so is one that holds nothing but what is written now.

    Returns:
        What the new text says. It has been parsed before it was written.

    Raises:
        InventoryInvalid: the new text has faults, or the file cannot be written. What was there is still.
        InventoryUntrusted: as when it is read.
        InventoryLocked: another command held it.
        UsageInvalid: there is no place for it.
        DiskFull: what was there is still.
        RbeeError: whatever `change` raises.
    """
    if draft.path is None:
        raise UsageInvalid("there is no home directory for an inventory: name one with --inventory")
    saved: list[Inventory] = []

    def content() -> bytes:
        now, before = read(draft)
        text = now.text or ""
        changed = change(text)
        saved.append(now.inventory(changed))
        mark = codecs.BOM_UTF8 if before.startswith(codecs.BOM_UTF8) else b""
        after = before if changed == text else mark + changed.encode()
        # Where that cannot be remembered, the next command says so and how to allow it.
        with contextlib.suppress(RbeeError):
            now.keep_allowed(before, after)
        return after

    try:
        rewrite(Path(os.path.realpath(draft.path)), content)
    except OSError as error:
        raise _failed(draft, error) from error
    return saved[-1]


def _failed(draft: InventorySource, error: OSError) -> RbeeError:
    details = {"file": draft.file, "errno": error.errno}
    message = f"the inventory {draft.file} cannot be written: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(message, details=details)
    parent = shlex.quote(str(draft.path.parent if draft.path else "."))
    return InventoryInvalid(message, hint=f"ls -la {parent}", details=details)
