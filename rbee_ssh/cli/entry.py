"""The program's first lines, and what Ctrl+C, SIGTERM and SIGHUP do from there on: the first one cancels, and
one that comes later ends the process at once."""

# The built-in half of `signal`: what else could be imported is a file, and while one is loaded Ctrl+C would
# show a traceback.
import _signal  # type: ignore[import-not-found]

# Until `root` catches signals there is nothing to tidy up: it ends us as SIGTERM and SIGHUP do.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

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


def main() -> None:
    """The `rbee` program."""
    from rbee_ssh.cli.main import main as program

    program()
