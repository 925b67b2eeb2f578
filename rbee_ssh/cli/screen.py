"""A whole terminal that is drawn over and over, as `top` does, and is as it was before when that ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rbee_ssh.cli.text import clean_line, fit

# The alternate screen, and no cursor; and back (xterm's control sequences, which everything speaks by now).
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _ERASE_LINE, _ERASE_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """A context manager; inside of it, `draw`.

    Args:
        write: puts text on the terminal.
        size: its columns and lines, now.
        toned: a text in the colours of a tone.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        size: Callable[[], tuple[int, int]],
        toned: Callable[[str, str], str],
    ) -> None:
        self._write, self.size, self._toned = write, size, toned

    def __enter__(self) -> Self:
        self._write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(_LEAVE)

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show these lines, each with its tone, in place of what was there; what is too much is left out."""
        columns, rows = self.size()
        # Erased before it is written: after a line of full width, the cursor still stands on its last column.
        drawn = [
            _ERASE_LINE + self._toned(fit(clean_line(text), columns), tone) for text, tone in lines[:rows]
        ]
        self._write(_HOME + "\r\n".join(drawn) + ("" if len(drawn) == rows else f"\r\n{_ERASE_BELOW}"))
