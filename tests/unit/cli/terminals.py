"""Real terminals and pipes for the console's tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from typing import IO


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
