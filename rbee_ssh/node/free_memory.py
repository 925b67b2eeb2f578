"""How much memory a node has, and how much of it is free: Linux, its control groups, macOS. All in bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rbee_ssh.node.untrusted_text import integer


def linux(meminfo: Iterable[str], groups: Iterable[Sequence[str]] = ()) -> tuple[int | None, int | None]:
    """Total and available memory.

    Args:
        meminfo: lines of /proc/meminfo, in KiB.
        groups: limit, usage and file cache of each control group we are in, in bytes. The cache counts as
            usage and is given up when the group runs short, as MemAvailable has it for the machine.
    """
    fields: dict[str, int] = {}
    for line in meminfo:
        name, _, value = line.partition(":")
        number = integer(value)
        if number is not None:
            fields.setdefault(name.strip(), number * 1024)
    total = fields.get("MemTotal")
    free = fields.get("MemAvailable", fields.get("MemFree"))
    for group in groups:
        limit, usage, cache = (integer(value) for value in (*group, "", "", "")[:3])
        if limit is not None:
            total = _least(total, limit)
            free = _least(free, limit if usage is None else max(limit - usage + (cache or 0), 0))
    return total, free and _least(free, total)


def macos(sysctl: Iterable[str], vm_stat: Iterable[str]) -> tuple[int | None, int | None]:
    """Total, and what is free or can be taken at once: free, speculative and inactive pages."""
    total = next((integer(line.split(":", 1)[1]) for line in sysctl if line.startswith("hw.memsize:")), None)
    size, pages = None, 0
    for line in vm_stat:
        if match := re.search(r"page size of ([0-9]{1,9}) bytes", line):
            size = int(match[1])
        elif match := re.match(r"Pages (free|inactive|speculative):\s*([0-9]{1,15})\.?$", line.strip()):
            pages += int(match[2])
    return total, None if size is None else _least(size * pages, total)


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
