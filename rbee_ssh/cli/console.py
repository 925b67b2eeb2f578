"""The only place that prints: the answer on stdout, messages on stderr.

Nothing a node sent reaches a terminal as it is. Into a pipe the tokens and logs go byte for byte: there the
next program may need exactly what the model said.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from rbee_ssh.cli.text import (
    Column,
    clean,
    clean_line,
    fit,
    in_inventory,
    json_escaped,
    strip_controls,
    table,
    unreachable,
)
from rbee_ssh.errors import DiskFull, RbeeError

if TYPE_CHECKING:
    from rbee_ssh.cli.live import Screen, TransferBar

_DIM, _RED, _YELLOW, _OFF = "\x1b[2m", "\x1b[1;31m", "\x1b[33m", "\x1b[0m"
_COLOURS = {
    name: f"\x1b[{number}m"
    for number, name in enumerate(("red", "green", "yellow", "blue", "magenta", "cyan"), 31)
}
_TONES = {"title": "\x1b[1m", "bad": _COLOURS["red"]}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputClosed(Exception):
    """Nobody reads stdout any more, as in `rbee infer … | head -1`: exit quietly with 141."""


class Console:
    """Prints for one command. It is the Reporter of the lower floors.

    Args:
        as_json: stdout is for a program: JSON only, errors included.
        events: with as_json, each line is an event; an error is one, too.
        quiet: no narration and no warnings; errors always.
        verbose: details too.
        stdout, stderr: text streams, or None where the process was started without one.
        environ: NO_COLOR and TERM are looked at.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        events: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        inventory: str | None = None,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.as_json = as_json
        self._events = events
        self._quiet = quiet
        self._verbose = verbose
        self._inventory = inventory  # the one that was given: commands that are told are for it
        self._out = sys.stdout if stdout is None else stdout
        self._err = sys.stderr if stderr is None else stderr
        environ = os.environ if environ is None else environ
        self.out_is_terminal = _is_terminal(self._out)
        self._err_is_terminal = _is_terminal(self._err)
        dumb = environ.get("TERM") == "dumb"
        plain = dumb or bool(environ.get("NO_COLOR"))
        self._colour = self._err_is_terminal and not plain
        self._out_colour = self.out_is_terminal and not plain
        self.draws = self.out_is_terminal and not dumb
        self._redraws = self._err_is_terminal and not dumb and not quiet
        self._bar: TransferBar | None = None
        self._status = False  # whether a line stands there that is to be taken away
        # Whether the cursor of a stream stands in the middle of a line. Two streams share it on one terminal,
        # and in one pipe or file, as after 2>&1.
        self._out_midline = False
        self._err_midline = False
        self._one_place = self.out_is_terminal or _same(self._out, self._err)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    # Messages, on stderr. None of it may break the command.

    def say(self, text: str) -> None:
        if not self._quiet:
            self._tell(self._told(text))

    def detail(self, text: str) -> None:
        if self._verbose and not self._quiet:
            self._tell(self._coloured(_DIM, clean(text)), cleaned=True)

    def warn(self, text: str) -> None:
        if not self._quiet:
            self._tell_as("warning:", _YELLOW, self._told(text))

    def error(self, text: str) -> None:
        """A part of the command that failed, and with it the command: not to be silenced, as `fail`."""
        self._tell_as("error:", _RED, self._told(text))

    def progress(self, label: str, done: int, total: int | None) -> None:
        if self._redraws:
            self._clear_status()
            self._end_lines()
            if self._bar is None:
                from rbee_ssh.cli.live import TransferBar

                self._bar = TransferBar(self._err_raw, _columns(self._err))
            self._bar.draw(label, done, total)

    def status(self, text: str) -> None:
        """A line on a terminal that the next output replaces; "" takes it away.

        Not by rich: it stands there before the first node of a fast command is asked.
        """
        if self._redraws:
            self._clear()
            self._end_lines()
            self._status = bool(text)
            if text:  # a line that fills a terminal to its last column would wrap
                self._err_raw(f"\r{fit(clean_line(text), _columns(self._err) - 1)}\x1b[K")

    def thinking(self, text: str) -> None:
        """A piece of a model's thinking: dimmed, on stderr."""
        if self._quiet or not text:
            return
        self._clear()
        if self._one_place and self._out_midline:
            self._end_lines()
        shown = strip_controls(text) if self._err_is_terminal else text
        self._err_raw(self._coloured(_DIM, shown))
        self._err_midline = not shown.endswith("\n") if shown else self._err_midline

    def unreachable(self, nodes: Mapping[str, RbeeError], *, failed: bool = False) -> None:
        """The nodes that did not answer; failed: the command with them, as `error`."""
        for name, error in nodes.items():
            (self.error if failed else self.warn)(unreachable(name, error))

    # The answer, on stdout.

    def answer(self, text: str) -> None:
        """A piece of a model's answer, flushed as it comes.

        Raises:
            OutputClosed: nobody reads it.
            DiskFull: stdout is a file on a full disk.
        """
        self._clear()
        self._end_thinking()
        if self.out_is_terminal:
            text = strip_controls(text)
        if text:
            self._write(_encoded(text))
            self._out_midline = not text.endswith("\n")

    def end_answer(self) -> None:
        """End the answer's last line on a terminal: a shell's prompt shall not follow on it."""
        self._end_thinking()
        if self.out_is_terminal:
            self._end_lines()

    def line(self, text: str, tone: str = "") -> None:
        """A line, or several, of a command's result; tone: "title" or "bad", colours of a terminal.

        Raises as `answer`.
        """
        self._clear()
        self._end_lines()
        self._write(_encoded(self._toned(clean(text), tone) + "\n"))

    @property
    def columns(self) -> int | None:
        """The width of the terminal that stdout is; None where it is none."""
        return _columns(self._out) if self.out_is_terminal else None

    def marked(self, mark: str, text: str | bytes, *, colour: str = "", error: bool = False) -> None:
        """A line, or several, with a mark in front that has a colour on a terminal. Raises as `answer`.

        Args:
            text: what a node sent, as bytes: made harmless on a terminal, and otherwise as it is.
            error: on stderr, where the command of a node wrote it there. Not a story, so not to be silenced.
        """
        terminal = self._err_is_terminal if error else self.out_is_terminal
        if isinstance(text, bytes) and terminal:
            text = clean(strip_controls(text.decode("utf-8", "replace")))
        data = _encoded(clean(text)) if isinstance(text, str) else text
        if _COLOURS.get(colour) and (self._colour if error else self._out_colour):
            mark = f"{_COLOURS[colour]}{mark}{_OFF}"
        self._clear()
        self._end_lines()
        if not error:
            self._write(mark.encode() + data + b"\n")
        elif self._err is not None:
            try:
                _put(self._err, mark.encode() + data + b"\n")
            except (OSError, ValueError):
                self._err = None

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """A table, cut to the terminal where stdout is one. Raises as `answer`."""
        self.line("\n".join(table(columns, rows, self.columns)))

    def screen(self) -> Screen:
        """The whole terminal behind stdout, to be drawn on over and over; for where `draws`."""
        from rbee_ssh.cli.live import Screen

        self._clear()
        return Screen(
            lambda text: self._write(_encoded(text)), lambda: _size(self._out), colour=self._out_colour
        )

    def raw(self, data: bytes) -> None:
        """Bytes of a log: as they are into a pipe, made harmless on a terminal. Raises as `answer`."""
        if self.out_is_terminal:
            data = _encoded(clean(strip_controls(self._decoder.decode(data))))
        self._clear()
        self._write(data)

    def json(self, value: Any) -> None:
        """One JSON text on one line. Raises as `answer`."""
        self._clear()
        self._write(json_line(self._hints_told(value)))

    # Ends and questions.

    def fail(self, error: RbeeError) -> None:
        """The error: JSON on stdout with `--json`, else two lines on stderr. Raises as `answer`."""
        self._clear()
        error.hint = error.hint and self._told(error.hint)
        if self.as_json:
            event = {"event": "error"} if self._events else {}
            self._write(json_line(event | {"error": error.as_json()}))
            return
        self._tell_as("error:", _RED, error.message)
        if error.hint:
            self._tell_as("hint:", _RED, error.hint)

    def _hints_told(self, value: Any) -> Any:
        """A value whose hints, of errors of single nodes, are for the inventory that was given."""
        if self._inventory is None:
            return value
        if isinstance(value, Mapping):
            return {
                key: self._told(item) if key == "hint" and isinstance(item, str) else self._hints_told(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._hints_told(item) for item in value]
        return value

    def _told(self, text: str) -> str:
        return in_inventory(text, self._inventory) if self._inventory else text

    def ask(self, question: str) -> bool | None:
        """A yes or no from the terminal; None where there is none, as in a pipe or under cron."""
        answer = self.question(f"{question} [y/N]")
        return None if answer is None else answer.lower() in ("y", "yes")

    @property
    def can_ask(self) -> bool:
        return _is_terminal(sys.stdin) and self._err_is_terminal

    def aside(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """A table that belongs to a question, not to the answer: on the terminal that is asked."""
        self._tell("\n".join(table(columns, rows, _columns(self._err))))

    def question(self, question: str) -> str | None:
        """A line from the terminal, empty at its end; None where there is none."""
        if not self.can_ask:
            return None
        self._clear()
        self._end_lines()
        self._err_raw(f"{clean(question)} ")
        return sys.stdin.readline().strip()

    def _tell(self, text: str, *, cleaned: bool = False) -> None:
        self._clear()
        self._end_lines()
        self._err_raw((text if cleaned else clean(text)) + "\n")

    def _tell_as(self, word: str, colour: str, text: str) -> None:
        self._tell(f"{self._coloured(colour, word)} {_indented(text)}", cleaned=True)

    def _clear(self) -> None:
        self._clear_status()
        if self._bar is not None:
            self._bar.clear()

    def _clear_status(self) -> None:
        if self._status:
            self._status = False
            self._err_raw("\r\x1b[K")

    def _end_thinking(self) -> None:
        """Thinking and answer are two paragraphs where one terminal shows both."""
        if self._err_midline:
            self._err_raw("\n\n" if self._err_is_terminal else "\n")
            self._err_midline = False

    def _end_lines(self) -> None:
        """Begin a new line wherever the cursor stands inside one."""
        if self._err_midline:
            self._err_midline = False
            self._err_raw("\n")
        if self._out_midline and self._one_place:
            self._out_midline = False
            # Also called for messages, which breaks nothing; the next piece of the answer will raise.
            with contextlib.suppress(OutputClosed, DiskFull):
                self._write(b"\n")

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colour and text else text

    def _toned(self, text: str, tone: str) -> str:
        return f"{_TONES[tone]}{text}{_OFF}" if tone and self._out_colour else text

    def _err_raw(self, text: str) -> None:
        if self._err is not None:
            try:
                _put(self._err, _encoded(text))
            except (OSError, ValueError):
                # Nobody reads messages any more; somebody may still read the answer.
                self._err = None

    def _write(self, data: bytes) -> None:
        if self._out is None:
            return
        try:
            _put(self._out, data)
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull(
                    f"stdout cannot be written: {error.strerror}", details={"errno": error.errno}
                ) from error
            raise OutputClosed from error


def json_line(value: Any) -> bytes:
    """One line of JSON in UTF-8. What would steer a terminal, and half a surrogate pair, which UTF-8 cannot
    hold, are escapes: the same text to whoever reads JSON."""
    return json_escaped(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode() + b"\n"


def _encoded(text: str) -> bytes:
    """UTF-8 whatever the locale says: a model's answer does not fit into less."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _put(stream: IO[str], data: bytes) -> None:
    # What somebody else has put into the text layer comes first.
    stream.flush()
    stream.buffer.write(data)  # type: ignore[attr-defined]
    stream.buffer.flush()  # type: ignore[attr-defined]


def _indented(text: str) -> str:
    """The further lines of a message set in, so that none of them can pass for a line of ours."""
    return clean(text.strip("\n")).replace("\n", "\n  ")


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _same(one: IO[str] | None, other: IO[str] | None) -> bool:
    """Whether two streams go to one file or pipe."""
    try:
        return one is not None and other is not None and os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):
        return False


def _columns(stream: IO[str] | None) -> int:
    return _size(stream)[0]


def _size(stream: IO[str] | None) -> tuple[int, int]:
    """Columns and lines of a terminal; 80 and 24 where it does not tell."""
    columns = lines = 0
    with contextlib.suppress(OSError, ValueError):
        columns, lines = os.get_terminal_size(stream.fileno()) if stream else (0, 0)
    return columns or 80, lines or 24
