"""The entry point: `rbee`, its commands, and the exit status of whatever ends them.

Nothing is imported here that `rbee --version` can do without.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from rbee_ssh import __version__
from rbee_ssh.cli import entry
from rbee_ssh.cli.context import Cli
from rbee_ssh.cli.options import LazyGroup

if TYPE_CHECKING:
    from types import FrameType

COMMANDS = {
    "infer": "rbee_ssh.cli.infer:infer",
    "nodes": "rbee_ssh.cli.nodes.group:nodes",
    "inventory": "rbee_ssh.cli.inventory:inventory",
    "models": "rbee_ssh.cli.models.group:models",
    "workers": "rbee_ssh.cli.workers:workers",
    "cleanup": "rbee_ssh.cli.cleanup:cleanup",
    "cron": "rbee_ssh.cli.cron.commands:cron",
    "tunnel": "rbee_ssh.cli.tunnel:tunnel",
}
SIGPIPE_STATUS = 141  # what a shell shows for a program that a closed pipe has ended
_COMPLETE = "_RBEE_COMPLETE"


@click.group(
    "rbee",
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, prog_name="rbee", message="%(prog)s %(version)s")
def root() -> None:
    """Run LLMs on the machines you can already reach over SSH.

    A node needs a login and a llama.cpp server: no daemon, no open port, no root. What a node serves is a
    worker: one engine with one model. It is started when it is first needed, stays for the next prompt, and
    ends by itself when nobody has used it for a while.

    \b
    Try it here, then on a machine of yours:
      rbee infer --model ./tiny.gguf "Why is the sky blue?"
      rbee nodes status
      rbee infer --node workstation --model file:///models/tiny.gguf "Why is the sky blue?"

    stdout is the answer, stderr is the story. Exit status: 0 done, 1 failed, 2 wrong usage or inventory, 130
    cancelled.
    """
    _catch_signals()


def main() -> None:
    """The `rbee` program."""
    # Imports make much and leave nothing to collect; looking for it took 17 of the 240 ms they take.
    # run_async turns it on again.
    gc.disable()
    status = run(sys.argv[1:])
    entry.leaving()
    sys.exit(status)


def run(args: Sequence[str]) -> int:
    """Run one command line, and tell the user how it ended; the exit status."""
    cli = Cli()
    try:
        status = _invoke(args, cli)
    except (SystemExit, click.exceptions.Exit) as leaving:
        code = leaving.code if isinstance(leaving, SystemExit) else leaving.exit_code
        status = code if isinstance(code, int) else int(code is not None)
    except BaseException as error:
        status = _report(error, cli, args)
    _settle()
    return status


def _invoke(args: Sequence[str], cli: Cli) -> int:
    # Not root.main(): it has its own ideas of Ctrl+C and of closed pipes.
    if instruction := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(root, {"obj": cli}, "rbee", _COMPLETE, instruction)
    with root.make_context("rbee", list(args), obj=cli) as ctx:
        root.invoke(ctx)
    return 0


def _report(error: BaseException, cli: Cli, args: Sequence[str]) -> int:
    from rbee_ssh.cli.console import Console, OutputClosed
    from rbee_ssh.cli.error_report import as_error, traceback_text
    from rbee_ssh.errors import Cancelled, RbeeError

    if isinstance(error, OutputClosed) or (isinstance(error, BrokenPipeError) and _stdout_gone()):
        return SIGPIPE_STATUS
    # A usage error may come before --json was read.
    plain = list(args[: args.index("--")]) if "--" in args else list(args)
    as_json = cli.as_json or "--json" in plain
    console = cli.console
    if as_json != cli.as_json:
        console = Console(as_json=as_json, events=cli.events, quiet=cli.quiet, inventory=cli.inventory_path)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
        error.show(sys.stderr)
        return error.exit_code
    known = as_error(error, os.environ)
    if cli.debug and not isinstance(error, RbeeError | click.ClickException):
        console.detail(traceback_text(error))
    try:
        if isinstance(known, Cancelled) and not as_json:
            console.say(known.message)
        else:
            console.fail(known)
    except OutputClosed:
        return SIGPIPE_STATUS
    except RbeeError as full:  # the disk behind stdout: said where there is still room
        Console(inventory=cli.inventory_path).fail(full)
    return known.exit_status


def _stdout_gone() -> bool:
    from rbee_ssh.cli.event_loop import reader_gone

    try:
        return reader_gone(1)
    except OSError:
        return False


def _catch_signals() -> None:
    """SIGTERM and SIGHUP end us as Ctrl+C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if entry.is_first():
            raise KeyboardInterrupt

    for number in entry.SIGNALS:
        # What the parent ignores stays ignored: SIGHUP under nohup, SIGINT in a script's background job.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def _settle() -> None:
    """Leave nothing in a buffer that the interpreter would fail to flush at its end: that is status 120."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


if __name__ == "__main__":
    main()
