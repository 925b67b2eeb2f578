"""The TOML under the inventory: what tomllib says, as our own errors."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.wording import quoted

# tomllib's time grows with the square of a dotted key's parts: an hour for a file of a megabyte.
DOTS = 300


def load_toml(text: str, file: str) -> dict[str, Any]:
    """The text as TOML, whatever it says.

    Args:
        file: how errors call it.

    Raises:
        InventoryInvalid: a syntax error, with its line.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS:
            raise invalid(file, [Fault((), f"expected at most {DOTS} dots on a line", number)])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$", str(error))
        what = str(error)[: place.start()] if place else str(error)
        end = text.rstrip("\n").count("\n") + 1
        fault = Fault((), f"not valid TOML: {what}", int(place[1]) if place and place[1] else end)
    except RecursionError:
        fault = Fault((), "expected no nesting hundreds of levels deep")
    except ValueError:
        # Python refuses to read decimal integers of more than 4,300 digits; tomllib lets that through.
        fault = Fault((), "expected no number of thousands of digits")
    raise invalid(file, [fault])


Where = tuple[str | int, ...]  # ("nodes", "a", "tags", 1) is the second tag of node a

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 100  # faults in the message; `details` has them all


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to mend. An empty `where` is the file itself; `line` counts from 1, None where unknown."""

    where: Where
    problem: str
    line: int | None = None


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
