"""What happens inside a command, for a bug report: on stderr with --debug, and in the file of RBEE_LOG.

Everybody below logs to `rbee.*` by Python's logging, at INFO and DEBUG, which costs next to nothing while
nobody asks for it. No record holds a prompt, an answer, a key, a token, an argument or a signed URL.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections.abc import Iterator

import click

from rbee_ssh import __version__
from rbee_ssh.cli.console import Console
from rbee_ssh.cli.text import clean_line
from rbee_ssh.errors import RbeeError, UsageInvalid
from rbee_ssh.wording import quoted

_LINE = "%(asctime)s.%(msecs)03d {}%(name)s: %(message)s"
log = logging.getLogger("rbee.command")


@contextlib.contextmanager
def logged(command: str, console: Console | None, path: str | None) -> Iterator[None]:
    """Log what happens inside of the block.

    Args:
        command: its name, without arguments.
        console: where the records are shown; None for nowhere.
        path: of the file that they are added to, made 0600 where there is none; None for no file.

    Raises:
        UsageInvalid: the file cannot be written.
    """
    rbee = logging.getLogger("rbee")
    handlers: list[logging.Handler] = []
    if console is not None:
        handlers.append(_ConsoleHandler(console))
        handlers[-1].setFormatter(_Formatter(_LINE.format(""), "%H:%M:%S"))
    if path:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageInvalid(f"RBEE_LOG={quoted(path)} cannot be written: {reason}") from error
        file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 # its handler closes it
        handlers.append(_FileHandler(file))
        handlers[-1].setFormatter(_Formatter(_LINE.format(f"{os.getpid()} "), "%Y-%m-%d %H:%M:%S"))
    for handler in handlers:
        rbee.addHandler(handler)
    rbee.setLevel(logging.DEBUG)
    rbee.propagate = False
    began, how = time.monotonic(), "done"
    log.info(
        "%s, rbee %s, Python %s, %s", command, __version__, *(platform.python_version(), platform.platform())
    )
    try:
        yield
    except BaseException as error:
        how = error.code if isinstance(error, RbeeError) else type(error).__name__
        if isinstance(error, click.exceptions.Exit):
            how = f"exit status {error.exit_code}"
        raise
    finally:
        log.info("%s: %s after %.2f s", command, how, time.monotonic() - began)
        rbee.setLevel(logging.NOTSET)
        for handler in handlers:
            rbee.removeHandler(handler)
            handler.close()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean_line(super().format(record))


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.detail(self.format(record))


class _FileHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Adds each record by one write, so that commands can share a file. One that is full breaks nothing."""

    def handleError(self, record: logging.LogRecord) -> None: ...

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        super().close()
