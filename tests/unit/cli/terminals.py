"""Real terminals and pipes for the console's tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import termios
from collections.abc import Iterator
from typing import IO

_PIECES = re.compile("\x1b\\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]")


def shown(written: str) -> list[str]:
    """The lines that stand on a terminal after this was written to it: what is erased is not there."""
    lines, row, column = [""], 0, 0
    for piece in _PIECES.finditer(written):
        line = lines[row]
        match piece[2], piece[0]:
            case None, "\r":
                column = 0
            case None, "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case None, character:
                lines[row] = line[:column].ljust(column) + character + line[column + 1 :]
                column += 1
            case "A", _:
                row = max(row - int(piece[1] or 1), 0)
            case "H", _:
                row = column = 0
            case "K", _:
                lines[row] = "" if piece[1] == "2" else line[:column]
    return [line.rstrip() for line in lines]


class Screen:
    """One end of a terminal or pipe; `text()` is what has been written to the other since."""

    def __init__(self, writer: IO[str], reader: int) -> None:
        self.writer = writer
        self._reader = reader

    def bytes(self) -> bytes:
        os.set_blocking(self._reader, False)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._reader, 65536):
                data += chunk
        return data

    def text(self) -> str:
        return self.bytes().decode()


@contextlib.contextmanager
def terminal(columns: int = 80) -> Iterator[Screen]:
    reader, writer = os.openpty()
    settings = termios.tcgetattr(writer)
    settings[1] &= ~termios.OPOST  # what is written is what is read: no \r before \n
    termios.tcsetattr(writer, termios.TCSANOW, settings)
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with _screen(reader, writer) as screen:
        yield screen


@contextlib.contextmanager
def pipe() -> Iterator[Screen]:
    reader, writer = os.pipe()
    with _screen(reader, writer) as screen:
        yield screen


@contextlib.contextmanager
def closed_pipe() -> Iterator[IO[str]]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with _failing(writer) as stream:
        yield stream


@contextlib.contextmanager
def full_disk() -> Iterator[IO[str]]:
    with _failing(os.open("/dev/full", os.O_WRONLY)) as stream:
        yield stream


@contextlib.contextmanager
def _failing(descriptor: int) -> Iterator[IO[str]]:
    with open(os.devnull, "w") as devnull, open(descriptor, "w", encoding="utf-8") as stream:
        yield stream
        os.dup2(devnull.fileno(), descriptor)  # what is left in the buffer must go somewhere


@contextlib.contextmanager
def _screen(reader: int, writer: int) -> Iterator[Screen]:
    try:
        with open(writer, "w", encoding="utf-8") as stream:
            yield Screen(stream, reader)
    finally:
        os.close(reader)
