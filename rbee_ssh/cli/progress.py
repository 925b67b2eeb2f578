"""One line at the bottom of a terminal that is drawn over and over, and leaves no trace."""

from __future__ import annotations

import time
from collections.abc import Callable

from rbee_ssh.cli.text import clean_line, fit, size, span, width

_REDRAW = 0.1  # seconds: more often costs the transfer, and nobody reads faster


class Bar:
    """The line.

    Args:
        write: puts text on the terminal.
        columns: its width.
        clock: seconds on a clock that only goes forward.
    """

    def __init__(
        self, write: Callable[[str], None], columns: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        # A terminal wraps a line that fills it to its last column, and then "\r" does not bring us back.
        self._columns = columns - 1
        self._clock = clock
        self._label: str | None = None
        self._began = 0.0
        self._began_at = 0
        self._drawn: float | None = None
        self._visible = False

    def draw(self, label: str, done: int, total: int | None) -> None:
        """Bytes done of total. The last call, with both equal, leaves one line that says how long it took."""
        now = self._clock()
        if label != self._label:
            # What was there before, as after a resumed download, says nothing about the speed.
            self._label, self._began, self._began_at, self._drawn = label, now, done, None
        if done == total:
            self.clear()
            self._write(f"{self._line(label, _took(done, now - self._began))}\n")
            self._label = None
        elif self._drawn is None or now - self._drawn >= _REDRAW:
            self._drawn = now
            self.show(self._line(label, bar_text(done, total, done - self._began_at, now - self._began)))

    def _line(self, label: str, numbers: str) -> str:
        """Both, as far as they fit; the label is cut first, the numbers are what changes."""
        room = max(self._columns - width(numbers) - 2, 1)
        return fit(f"{fit(clean_line(label), room)}: {numbers}", self._columns)

    def show(self, text: str) -> None:
        """Any text, in place of what stands there."""
        if not text:
            self.clear()
            return
        self._visible = True
        self._write(f"\r{fit(clean_line(text), self._columns)}\x1b[K")

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._visible:
            self._visible = False
            self._drawn = None
            self._write("\r\x1b[K")


def bar_text(done: int, total: int | None, moved: int, seconds: float) -> str:
    """What the line says of what is moved.

    Args:
        done, total: bytes; total may be unknown.
        moved: bytes since the first call, which took `seconds`.
    """
    parts = [size(done) if total is None else f"{100 * done // max(total, 1)}% of {size(total)}"]
    if seconds >= 1 and moved > 0:
        speed = moved / seconds
        parts.append(f"{size(int(speed))}/s")
        if total is not None and total > done:
            parts.append(f"{span(max(1, round((total - done) / speed)))} left")
    return ", ".join(parts)


def _took(done: int, seconds: float) -> str:
    return f"{size(done)} in {span(seconds)}"
