"""How what is wrong in an inventory is told: as text for people, as values for `--json`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory.readers import Fault, Where
from rbee_ssh.wording import quoted

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 100  # faults in the message; `details` has them all


def dotted(where: Where) -> str:
    """The key's path as TOML writes it, the place in an array in brackets."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else quoted(part))
    return text


def described(file: str, faults: Sequence[Fault]) -> str:
    """The faults as text: one line each, `file:line: key: problem`, as editors and terminals link it."""
    lines = []
    for fault in faults[:_SHOWN]:
        place = file if fault.line is None else f"{file}:{fault.line}"
        lines.append(": ".join(part for part in (place, dotted(fault.where), fault.problem) if part))
    if len(faults) > _SHOWN:
        lines.append(f"… and {len(faults) - _SHOWN} more")
    return "\n".join(lines)


def invalid(file: str, faults: Sequence[Fault]) -> InventoryInvalid:
    """The error that tells all of `faults`, in the order of their lines.

    Args:
        file: the path as the user knows it.
        faults: at least one.
    """
    faults = sorted(faults, key=lambda fault: fault.line or 0)
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    first = next((fault.line for fault in faults if fault.line is not None), None)
    return InventoryInvalid(
        f"the inventory has {count}\n{described(file, faults)}",
        hint=f"${{EDITOR:-vi}} +{first} {shlex.quote(file)}" if first else None,
        details=details(file, faults),
    )


def details(file: str, faults: Sequence[Fault]) -> dict[str, object]:
    """The same for `--json`."""
    return {
        "file": file,
        "faults": [
            {"line": fault.line, "key": dotted(fault.where), "problem": fault.problem} for fault in faults
        ],
    }
