"""`rbee nodes run`: one command on many nodes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import Command, tag_option
from rbee_ssh.cli.text import unreachable, width
from rbee_ssh.errors import UsageInvalid

if TYPE_CHECKING:
    from rbee_ssh.fleet.run import Ended

_WORDS = "rbee.words"
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue")


class RunCommand(Command):
    """A command whose words behind `--` are not its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, words = args, tuple[str, ...]()
        if "--" in args:
            at = args.index("--")
            own, words = args[:at], tuple(args[at + 1 :])
        ctx.meta[_WORDS] = words
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "COMMAND..."]


@click.command(cls=RunCommand, events=True, short_help="Run a command on many nodes at once.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@tag_option
@click.option("--no-prefix", is_flag=True, help="The lines as they are, without the node's name.")
@pass_cli
def run(cli: Cli, names: tuple[str, ...], tags: tuple[str, ...], no_prefix: bool) -> None:
    """Run a command on these nodes, or on all, at the same time; each line of output has the node's name.

    Several words are a program and its arguments, which reach it as they stand here, whatever they hold. A
    single word is a line for the login shell there: with pipes, variables, wildcards. Its standard input is
    empty. What it writes to stderr comes on stderr.

    \b
      rbee nodes run --tag gpu -- nvidia-smi -L
      rbee nodes run gpu1 gpu2 -- 'df -h ~ | tail -1'

    A node that is down is told, and the others go on. Ctrl+C ends the commands: TERM, and KILL after 2 s.

    The exit status is the highest of all: 128 + n for a command that signal n has ended, 1 for a node that
    was not reached or was lost. With --json each line is an object: "output" with "node", "stream" and
    "line", and in the end of each node "end" with "status" and "seconds", or with "error".
    """
    words: tuple[str, ...] = click.get_current_context().meta[_WORDS]
    if not words:
        raise UsageInvalid("no command: it stands behind --", hint="rbee nodes run -- uname -a")
    if "" in words[:1]:
        raise UsageInvalid("the command is empty", hint="rbee nodes run -- uname -a")
    wanted = cli.nodes(names, tags)
    console = cli.console
    widest = max(width(name) for name in wanted)
    marks = {name: "" if no_prefix else f"{name}{' ' * (widest - width(name))} | " for name in wanted}
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(wanted)}

    from rbee_ssh.fleet.run import run_on, worst

    def on_line(name: str, stream: str, line: bytes) -> None:
        if cli.as_json:
            text = line.decode("utf-8", "replace")
            console.json({"event": "output", "node": name, "stream": stream, "line": text})
        else:
            console.marked(marks[name], line, colour=colours[name], error=stream == "stderr")

    def on_end(end: Ended) -> None:
        if cli.as_json:
            console.json(shapes.command_ended(end))
        elif end.error is not None:
            console.error(unreachable(end.name, end.error))
        elif end.status:
            console.say(f"{end.name}: exit status {end.status}")

    status = worst(cli.run(lambda pool: run_on(pool, wanted, words, on_line, on_end), stream=True))
    if status:
        click.get_current_context().exit(status)
