"""Ctrl+C, SIGTERM and SIGHUP: the first one cancels, and one that comes later ends the process at once."""

from __future__ import annotations

import os
import signal
import time

CANCELLED_STATUS = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds. `timeout` and some supervisors signal a process, and then its group: that is one signal. A busy
# machine lets so much pass between the two, and nobody who means a second key does.
ECHO = 0.25

_first: float | None = None


def is_first() -> bool:
    """Whether this signal is the process's first one; False for its echo. A later one does not come back."""
    global _first  # noqa: PLW0603 # signals are the process's
    now = time.monotonic()
    if _first is None:
        _first = now
        return True
    if now - _first > ECHO:
        os._exit(CANCELLED_STATUS)
    return False


def leaving() -> None:
    """All is done and said. The interpreter takes its handlers away first, and an echo would be the end."""
    if _first is not None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
