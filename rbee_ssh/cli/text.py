"""Text for a terminal: made harmless, measured, put into columns. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.errors import RbeeError

_COMMAND = re.compile(
    r"(?<![\w./-])rbee ((?:--verbose )?(?:infer|nodes|models|workers|cleanup|cron|tunnel)\b"
    r"(?![^\n`]* --help$))",
    re.MULTILINE,
)

# C0 without tab and line feed, DEL, C1.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# The same with what turns the direction of text around, ends a line in some terminals, or is no character.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_HARMFUL_IN_LINE = re.compile(_HARMFUL.pattern[:-1] + "\t\n]")
# CSI, OSC and the other string sequences, then any two-character escape.
_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]*[0-~])")

READABLE = 12  # a column that is cut should keep this …
NARROWEST = 8  # … and keeps at least this


def clean(text: str) -> str:
    """`text` with every control character made visible as an escape, line feeds and tabs aside."""
    return _HARMFUL.sub(_escaped, text)


def clean_line(text: str) -> str:
    """As `clean`, line feeds and tabs too: the result is one line whatever a node put into a name."""
    return _HARMFUL_IN_LINE.sub(_escaped, text)


def json_escaped(text: str) -> str:
    """JSON with everything harmful in it as JSON's own escapes: it can only stand inside of strings."""
    return _HARMFUL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def strip_controls(text: str) -> str:
    """`text` of a model for a terminal: without escape sequences and control characters.

    Line feeds and tabs stay, and so do the marks that right-to-left scripts need.
    """
    return _STEERING.sub("", _SEQUENCE.sub("", text))


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "surrogatepass").decode("ascii")


def width(text: str) -> int:
    """The columns that `text` takes on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def fit(text: str, columns: int, *, keep: str = "start") -> str:
    """`text` cut to `columns`, with an ellipsis at the end, or at the start with `keep="end"`."""
    if width(text) <= columns:
        return text
    kept = ""
    for character in text if keep == "start" else reversed(text):
        if width(kept) + width(character) > columns - 1:
            break
        kept = kept + character if keep == "start" else character + kept
    return kept + "…" if keep == "start" else "…" + kept


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `keep` says which end of a cell stays when the table is too wide for the terminal: "start", "end", or
    "all" for a column that is never cut. Where cutting is not enough, the columns with a `spare` are left
    out, the highest first.
    """

    title: str
    right: bool = False
    keep: str = "all"
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of a table are shown, and how wide each of those is."""

    columns: tuple[Column, ...]
    shown: tuple[int, ...]
    widths: tuple[int, ...]
    limit: int | None

    @property
    def titles(self) -> str:
        return self.line([column.title for column in self.columns])

    def line(self, cells: Sequence[str]) -> str:
        """A row: a cell for each column, shown or not."""
        columns = [self.columns[i] for i in self.shown]
        return _line(columns, self.widths, [clean_line(cells[i]) for i in self.shown], self.limit is not None)

    def note(self, cells: Sequence[str], text: str) -> str:
        """A row of the first columns, which must be shown ones, and a text in the place of all others."""
        count = len(cells)
        start = Layout(self.columns[:count], self.shown[:count], self.widths[:count], self.limit)
        line = start.line(cells)
        if text:
            line += " " * (sum(start.widths) + 2 * count - width(line)) + clean_line(text)
        line = line.rstrip()
        return line if self.limit is None else fit(line, self.limit)


def lay_out(columns: Sequence[Column], widths: Sequence[int], limit: int | None = None) -> Layout:
    """Give each column its place.

    Args:
        columns: titles and how they give way.
        widths: what each would like to have.
        limit: the terminal's width; None where nothing is to be cut, as in a pipe.
    """
    shown = list(range(len(columns)))
    if limit is not None:
        shown = _worth_showing(columns, widths, limit)
    wide = [widths[i] for i in shown]
    if limit is not None:
        wide = _narrowed([columns[i] for i in shown], wide, limit)
    return Layout(tuple(columns), tuple(shown), tuple(wide), limit)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int | None = None) -> list[str]:
    """The lines of a table, its title line first.

    Args:
        columns: titles and how they give way.
        rows: a cell for each column; control characters in them are made visible.
        limit: the terminal's width; None where nothing is to be cut, as in a pipe.
    """
    cells = [[clean_line(cell) for cell in row] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(width(line[i]) for line in [titles, *cells]) for i in range(len(columns))]
    layout = lay_out(columns, widths, limit)
    return [layout.titles, *(layout.line(row) for row in cells)]


def _worth_showing(columns: Sequence[Column], widths: Sequence[int], limit: int) -> list[int]:
    """The columns that have a place: all, unless they are too many even when cut to a readable rest."""
    shown = list(range(len(columns)))
    least = [
        wide if column.keep == "all" else min(wide, READABLE)
        for column, wide in zip(columns, widths, strict=True)
    ]
    while sum(least[i] for i in shown) + 2 * (len(shown) - 1) > limit:
        spare = max(shown, key=lambda i: columns[i].spare)
        if not columns[spare].spare:
            break
        shown.remove(spare)
    return shown


def _narrowed(columns: Sequence[Column], widths: list[int], limit: int) -> list[int]:
    """The widths that fit into `limit`: the widest column that may be cut gives way first, step by step."""
    widths = list(widths)
    while sum(widths) + 2 * (len(widths) - 1) > limit:
        flexible = [i for i, c in enumerate(columns) if c.keep != "all" and widths[i] > NARROWEST]
        if not flexible:
            break
        widths[max(flexible, key=lambda i: widths[i])] -= 1
    return widths


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], cut: bool) -> str:
    shown = []
    for column, columns_wide, cell in zip(columns, widths, cells, strict=True):
        if cut and width(cell) > columns_wide:
            cell = fit(cell, columns_wide, keep="end" if column.keep == "end" else "start")
        blanks = " " * (columns_wide - width(cell))
        shown.append(blanks + cell if column.right else cell + blanks)
    return "  ".join(shown).rstrip()


def unreachable(name: str, error: RbeeError) -> str:
    """The warning about a node that did not answer: what, and below it what to do."""
    message = error.message if name in error.message else f"{name}: {error.message}"
    return f"{message}\nhint: {error.hint}" if error.hint else message


def size(count: int) -> str:
    """Bytes for people: "512 B", "98.0 MiB", "1.5 GiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def span(seconds: float) -> str:
    """Seconds for people: "0.3s" (whole ones "3s"), "42s", "5m10s", "2h05m", "3d04h"."""
    if seconds < 10 and not isinstance(seconds, int):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def in_inventory(text: str, path: str) -> str:
    """A text whose commands are for the inventory that this command was given by an option."""
    from rbee_ssh.ssh.quote import quote

    return _COMMAND.sub(lambda found: f"rbee --inventory {quote(path)} {found[1]}", text)
