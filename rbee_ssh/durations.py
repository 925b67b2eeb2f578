"""Spans of time as people write them: 90, "90s", "5m", "1h30m", "2d"."""

from __future__ import annotations

import re

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
LONGEST = 3650 * UNITS["d"]  # what is longer is a slip of the keyboard, and overflows somebody's timer
FORMS = 'seconds, or text like "90s", "5m", "1h30m", "2d"'

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
# The largest unit first and each at most once: "30m1h" is more likely a typo than a wish.
_SPAN = re.compile(r"\s*".join(f"(?:(?P<{unit}>{_NUMBER}){unit}(?![a-z]))?" for unit in UNITS))


def duration(text: str | int | float) -> float:
    """The span in seconds.

    Args:
        text: a number of seconds, or a number with a unit (d, h, m, s, ms), or several of those, the largest
            first. A bare number in a string counts seconds too.

    Raises:
        ValueError: anything else, a negative span, or one over ten years; the text says which.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"expected {FORMS}")
    if not isinstance(text, str):
        seconds = float(max(-1, min(text, LONGEST + 1)))
    elif re.fullmatch(_NUMBER, text.strip()):
        seconds = float(text)
    else:
        parts = _SPAN.fullmatch(text.strip().lower())
        if not parts or not any(parts.groupdict().values()):
            raise ValueError(f"expected {FORMS}")
        seconds = sum(float(parts[unit] or 0) * size for unit, size in UNITS.items())
    # Not a number compares as False with everything.
    if not 0 <= seconds <= LONGEST:
        raise ValueError("expected a span from 0 to 3650 days")
    return seconds
