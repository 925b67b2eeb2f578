"""What a node sends is data: cleaned of what could steer a terminal, cut, and read with suspicion."""

from __future__ import annotations

import re
import unicodedata

# An escape sequence, also when the node has already taken the ESC out of it.
_ANSI = re.compile(r"\x1b?\[[0-9;?]*[mKJHABCD]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: str, limit: int = 4096) -> str:
    """`text` without control characters and otherwise as it is: a path has to stay a path."""
    return _CONTROL.sub("", text[:limit])


def clean(text: str, limit: int = 500) -> str:
    """`text` for people: without escape sequences and control characters, cut to `limit` characters."""
    text = _ANSI.sub("", text[: limit * 4]).replace("\t", " ")
    return "".join(c for c in text if unicodedata.category(c) not in _UNWANTED).strip()[:limit]


def integer(text: str | None) -> int | None:
    """A whole number of at most 18 digits, "[N/A]" and the like being None. "24564 MiB" is 24564."""
    match = re.match(r"\s*([0-9]{1,18})(?:\s|$)", text or "", re.ASCII)
    return int(match[1]) if match else None
