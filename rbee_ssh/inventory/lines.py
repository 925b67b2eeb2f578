"""Which line a key stands on, and where each table is. tomllib does not tell, so the text is read again."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass

from rbee_ssh.inventory.readers import Where

DEPTH = 4  # nodes.NAME.tags[0]: nothing deeper is ever reported

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A multi-line string may end in one or two quotes of its own, right before the three that close it.
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:[^"\\]|\\.)*"' r"|'[^']*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


def lines(text: str) -> dict[Where, int]:
    """The line, counted from 1, of every key, table header and array element down to DEPTH.

    Args:
        text: TOML that tomllib has accepted; of anything else the answer may be incomplete or wrong.
    """
    scanner = _Scanner(text)
    # A line number is a courtesy: what was found so far is kept, and the rest has none.
    with suppress(IndexError, ValueError, RecursionError):
        scanner.document()
    return scanner.implied | scanner.explicit


@dataclass(slots=True)
class Section:
    """The lines, counted from 1, from a table's header to the end of the last value below it.

    What stands before the first header has the empty path, and `last` is 0 when that is no value.
    """

    path: Where
    first: int
    last: int


def sections(text: str) -> list[Section]:
    """The tables that have a header of their own, in their order, after what stands before the first one.

    Args:
        text: as for `lines`; of anything else the answer may be wrong.
    """
    scanner = _Scanner(text)
    with suppress(IndexError, ValueError, RecursionError):
        scanner.document()
    return scanner.sections


class _Scanner:
    """Walks text that is known to be TOML: only what tells keys from values needs to be understood."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.breaks = [end.start() for end in re.finditer("\n", text)]
        self.explicit: dict[Where, int] = {}  # where it is written …
        self.implied: dict[Where, int] = {}  # … or where the first of its children is
        self.sections = [Section((), 1, 0)]

    def document(self) -> None:
        table: Where = ()
        while self.peek():
            if self.peek() == "[":
                brackets = "]]" if self.text.startswith("[[", self.at) else "]"
                first = self.line()
                self.at += len(brackets)
                table = self.key(())
                self.at = self.text.index(brackets, self.at) + len(brackets)
                self.sections.append(Section(table, first, first))
            else:
                self.pair(table)
                self.sections[-1].last = self.line()

    def pair(self, table: Where) -> None:
        path = self.key(table)
        self.at = self.text.index("=", self.at) + 1
        self.value(path)

    def key(self, table: Where) -> Where:
        self.take(_SPACE)
        path, line = table, self.line()
        while True:
            if self.text[self.at] in "\"'":
                word = str(tomllib.loads(f"key = {self.take(_STRING)}")["key"])
            else:
                word = self.take(_BARE)
            path = (*path, word)
            self.take(_SPACE)
            if self.text[self.at] != ".":
                break
            self.note(self.implied, path, line)
            self.at += 1
            self.take(_SPACE)
        self.note(self.explicit, path, line)
        return path[: DEPTH + 1]  # long enough to be known as too deep

    def value(self, path: Where) -> None:
        opening = self.peek()
        if opening in "\"'":
            self.take(_STRING)
        elif opening == "[":
            self.at += 1
            count = 0
            while self.peek() != "]":
                self.note(self.explicit, (*path, count), self.line())
                self.value((*path, count)[: DEPTH + 1])
                self.comma()
                count += 1
            self.at += 1
        elif opening == "{":
            self.at += 1
            while self.peek() != "}":
                self.pair(path)
                self.comma()
            self.at += 1
        else:
            self.take(_SCALAR)

    def comma(self) -> None:
        if self.peek() == ",":
            self.at += 1

    def peek(self) -> str:
        """The next character that is neither white space nor comment; empty at the end."""
        self.take(_GAP)
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if not match:
            raise ValueError("not what TOML has here")
        self.at = match.end()
        return match[0]

    def line(self) -> int:
        return bisect_left(self.breaks, self.at) + 1

    @staticmethod
    def note(where: dict[Where, int], path: Where, line: int) -> None:
        if len(path) <= DEPTH:
            where.setdefault(path, line)
