"""Tables, what machine they are of, and docs/benchmarks.md."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `scripts/bench`; run it for the numbers of your machine. Both sides of a row were measured in one
run, in turn: the ratio is the median of the pairs' ratios, and the spread is the middle half of them.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; the first column is text, the others are numbers."""
    rules = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rules, *rows))


def machine() -> str:
    """What the numbers depend on, and nothing that names this machine."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{_cpu()}, {os.cpu_count()} cores · {platform.system()} {platform.release().partition('-')[0]} · "
        f"Python {platform.python_version()} · {ssh.strip()} · {today} · "
        f"load average before: {os.getloadavg()[0]:.1f}"
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def write(name: str, text: str) -> None:
    """Put a benchmark's section into docs/benchmarks.md, in the place of the one that stands there."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n\n{text.strip()}\n\n{end}\n"
    old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.is_file() else HEAD
    before, found, rest = old.partition(begin)
    if not found:
        before = old.rstrip("\n") + "\n\n"
    DOCUMENT.write_text(before + section + rest.partition(f"{end}\n")[2], encoding="utf-8")
