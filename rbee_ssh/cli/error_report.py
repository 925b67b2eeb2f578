"""Whatever ended a command → an RbeeError, with the traceback of a bug saved to a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from rbee_ssh.cli.console import FULL
from rbee_ssh.errors import Cancelled, DiskFull, RbeeError, Unexpected, UsageInvalid
from rbee_ssh.places import state_directory
from rbee_ssh.wording import without_url_secrets

REPORT = "rbee --debug … shows the traceback; please report it"


def as_error(error: BaseException, environ: Mapping[str, str]) -> RbeeError:
    """The error that the user is shown for `error`; a bug's traceback is saved on the way."""
    if isinstance(error, RbeeError):
        return error
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Cancelled("cancelled")
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None and _is_echo(error):
        return DiskFull(f"stdout cannot be written: {error.strerror}", details={"errno": error.errno})
    if isinstance(error, BaseExceptionGroup) and (known := _known(error)):
        return known
    return _unexpected(error, environ)


def _is_echo(error: OSError) -> bool:
    """Whether click could not print a help, or the version."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "click.utils"


def _usage(error: click.ClickException) -> UsageInvalid:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else "rbee"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return UsageInvalid(f"{path}: no command given", hint=f"{path} --help")
    message = error.format_message().rstrip(".")
    return UsageInvalid(message[:1].lower() + message[1:], hint=f"{path} --help")


def _known(group: BaseExceptionGroup[BaseException]) -> RbeeError | None:
    """The first error in a task group's bundle that says something to a user."""
    for error in group.exceptions:
        found = _known(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, RbeeError):
            return found
    return None


def _unexpected(error: BaseException, environ: Mapping[str, str]) -> Unexpected:
    # Of a library, which knows no secrets.
    what = without_url_secrets(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    try:
        path = save_traceback(error, environ)
    except OSError as problem:
        return Unexpected(
            f"unexpected {what} (and its traceback could not be saved: {problem.strerror})", hint=REPORT
        )
    return Unexpected(
        f"unexpected {what}; the traceback is in {path}", hint=REPORT, details={"traceback": str(path)}
    )


def save_traceback(error: BaseException, environ: Mapping[str, str]) -> Path:
    """Write the traceback to a new 0600 file under ${XDG_STATE_HOME:-~/.local/state}/rbee, and say where."""
    import time

    directory = Path(state_directory(environ))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = directory / f"traceback-{stamp}-{os.getpid()}.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(traceback_text(error))
    return path


def traceback_text(error: BaseException) -> str:
    """The traceback as Python shows it, to be sent to somebody: without what is secret in a URL."""
    import traceback

    return without_url_secrets("".join(traceback.format_exception(error)))
