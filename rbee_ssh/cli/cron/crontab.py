"""Text of a crontab: the one line of ours in it, and how that line is written. Pure.

The line ends in a shell comment that marks it. Every other line stays as it is, byte for byte.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

MARK = "# rbee-cleanup"

# What cron can repeat evenly: minutes that divide the hour, hours that divide the day.
_MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
_SECONDS = {60 * m: f"*/{m} * * * *" for m in _MINUTES} | {3600 * h: f"0 */{h} * * *" for h in _HOURS}
_SCHEDULES = _SECONDS | {60: "* * * * *", 3600: "0 * * * *", 86400: "0 0 * * *"}

_LOG = re.compile(rf" >>(.+) 2>&1 {re.escape(MARK)}$")
_PIECES = re.compile(r"[\\%]|[^\\%]+")


def find(text: str) -> str | None:
    """Our line in a crontab; None when there is none. One that was commented out is not ours any more."""
    return next(filter(_is_ours, text.split("\n")), None)


def install(text: str, line: str) -> str:
    """The crontab with `line` in the place of our older one, else at its end.

    A last line without a line feed gets one, since cron ignores or refuses it otherwise.

    Raises:
        ValueError: `line` is not a line of ours, and would not be found again.
    """
    if "\n" in line or not _is_ours(line):
        raise ValueError(f"not one line that ends in {MARK}")
    lines = _lines(text)
    if find(text) is None:
        return _joined([*lines, line])
    first = next(number for number, known in enumerate(lines) if _is_ours(known))
    return _joined([*lines[:first], line, *(known for known in lines[first:] if not _is_ours(known))])


def remove(text: str) -> str:
    """The crontab without our line; unchanged when there is none."""
    if find(text) is None:
        return text
    return _joined([known for known in _lines(text) if not _is_ours(known)])


def line(schedule: str, argv: Sequence[str], log_path: str) -> str:
    """Our line: when, what, and the file that takes its output.

    Args:
        schedule: five fields, as `schedule()` gives them.
        argv: the command; its first word is an absolute path, since cron knows next to no PATH.
        log_path: absolute, appended to.

    Raises:
        ValueError: a path is not absolute, or a word holds what a crontab line cannot carry.
    """
    for path in (argv[0], log_path):
        if not os.path.isabs(path):
            raise ValueError(f"not an absolute path: {path!r}")
    return f"{schedule} {' '.join(map(quote, argv))} >>{quote(log_path)} 2>&1 {MARK}"


def schedule(every: float) -> str:
    """The five fields that mean "every so many seconds".

    Raises:
        ValueError: cron cannot repeat that evenly; the text names the nearest spans it can.
    """
    if every in _SCHEDULES:
        return _SCHEDULES[int(every)]
    below = max((known for known in _SCHEDULES if known < every), default=None)
    above = min((known for known in _SCHEDULES if known > every), default=None)
    near = " and ".join(spelled(known) for known in (below, above) if known is not None)
    verb = "are" if " and " in near else "is"
    raise ValueError(f"cron cannot repeat evenly every {spelled(every)}; the nearest it can {verb} {near}")


def spelled(seconds: float) -> str:
    """A span as `--every` and `--idle` take it: 300 → "5m", 90 → "90s"."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def quote(word: str) -> str:
    """`word` for a crontab line: quoted for the shell, and past cron, which looks at % and \\ first.

    Cron turns a bare % into a line feed and takes the backslash from \\%; some crons take one from \\\\ too.
    So each % stands outside of quotes as \\%, and each backslash stands alone in quotes, next to neither.

    Raises:
        ValueError: it holds a line feed, a carriage return or NUL.
    """
    if bad := re.search("[\n\r\0]", word):
        raise ValueError(f"a crontab line cannot carry {bad.group()!r}: {word!r}")
    pieces = (_PIECE_QUOTES.get(piece) or shlex.quote(piece) for piece in _PIECES.findall(word))
    return "".join(pieces) or "''"


_PIECE_QUOTES = {"%": r"\%", "\\": r"'\'"}


def schedule_of(line: str) -> str:
    return " ".join(line.split()[:5])


def log_of(line: str) -> str | None:
    """The log file a line of ours appends to; None when somebody rewrote it."""
    found = _LOG.search(line.rstrip())
    try:
        words = shlex.split(found.group(1)) if found else []
    except ValueError:
        return None
    return words[0] if len(words) == 1 else None


def _is_ours(line: str) -> bool:
    stripped = line.strip()
    return stripped.endswith(f" {MARK}") and not stripped.startswith("#")


def _lines(text: str) -> list[str]:
    # Not splitlines(): a form feed or U+2028 ends no line of a crontab.
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
