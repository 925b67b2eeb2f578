"""What a node's programs print, line by line while they run."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable

from rbee_ssh.reporter import Reporter
from rbee_ssh.wording import without_url_secrets

_LINE = 500  # characters of a line that are told
_LAST = 12  # lines that an error repeats
_BREAK = re.compile("\r\n|\n|\r")


class LineWriter:
    """A text stream that invoke writes to, from threads of its own.

    Within a script (`listen`), what comes before the line that is the mark is a login shell's noise, and
    lines that start with mark and tab are for us: `key<TAB>value`. All others are told.

    Args:
        reporter: told in the thread of `loop`.
        prefix: put before each line; a node's name where there are several.
    """

    def __init__(self, reporter: Reporter, loop: asyncio.AbstractEventLoop, prefix: str = "") -> None:
        self._reporter = reporter
        self._loop = loop
        self._prefix = prefix
        self._pending = ""
        self._lock = threading.Lock()
        self._mark: str | None = None
        self._begun = True
        self._on_value: Callable[[str, str], None] | None = None
        self.last: deque[str] = deque(maxlen=_LAST)

    def __copy__(self) -> LineWriter:
        # invoke copies the values of its configuration.
        return self

    def listen(self, mark: str | None, on_value: Callable[[str, str], None] | None) -> None:
        """From here on, the mark of a script, and who is given its values; None when it has ended."""
        self.flush_rest()
        self._mark, self._on_value = mark, on_value
        self._begun = mark is None
        if mark is not None:
            self.last.clear()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._pending = _BREAK.split(self._pending + text)
            if len(self._pending) > 64 * 1024:
                lines, self._pending = [*lines, self._pending], ""
        for line in lines:
            self._take(line)
        return len(text)

    def flush(self) -> None:
        """invoke flushes after each piece, in the middle of a line too: nothing to do."""

    def flush_rest(self) -> None:
        """At a program's end: its last line may have had no end."""
        with self._lock:
            rest, self._pending = self._pending, ""
        if rest:
            self._take(rest)

    def tell(self, line: str) -> None:
        """A line of our own."""
        self._loop.call_soon_threadsafe(self._reporter.say, self._prefix + line)

    def _take(self, line: str) -> None:
        if line == self._mark:
            self._begun = True
            self.last.clear()
        elif self._mark is not None and line.startswith(self._mark + "\t"):
            _, key, value = (*line.split("\t", 2), "")[:3]
            if self._on_value is not None:
                self._on_value(key, value)
        elif line.strip():
            # An index, or a link that it gives, may hold a password or a signature.
            line = without_url_secrets(line)[:_LINE]
            self.last.append(line)
            if self._begun:
                self.tell(f"  {line}")
