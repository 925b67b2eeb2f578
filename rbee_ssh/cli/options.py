"""Commands that take the global options before and after their name, and groups that import them when asked.

`rbee --json nodes list` and `rbee nodes list --json` mean the same: every command knows the global options,
and all of them write into the one Cli that the context carries.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click

from rbee_ssh.cli.context import Cli


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    # Not given here is no news: it may have been given before the command's name.
    if value:
        setattr(ctx.find_object(Cli), option.name or "", value)


def _global(*names: str, **attributes: Any) -> click.Option:
    return click.Option(list(names), expose_value=False, callback=_remember, **attributes)


GLOBAL_OPTIONS: tuple[click.Parameter, ...] = (
    _global(
        "--inventory",
        "inventory_path",
        metavar="PATH",
        help="The inventory to use. Else RBEE_INVENTORY, ./inventory.toml, ~/.config/rbee/inventory.toml, "
        "or one node: localhost.",
    ),
    _global("--json", "as_json", is_flag=True, help="JSON on stdout, errors included."),
    _global("-q", "--quiet", "quiet", is_flag=True, help="No narration and no warnings on stderr."),
    _global("-v", "--verbose", "verbose", is_flag=True, help="More narration on stderr."),
    _global(
        "--debug",
        "debug",
        is_flag=True,
        help="Log what happens to stderr, with the traceback of a bug; and -v. The variable RBEE_LOG=FILE "
        "keeps the log.",
    ),
)


class Command(click.Command):
    """A command that knows the global options too.

    Args:
        events: with --json it prints a line for each event, and its error is one of them.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        context_settings: dict[str, Any] | None = None,
        events: bool = False,
        **attributes: Any,
    ) -> None:
        # Each has its own, not its parent's: click makes the help option once, for whoever asks first.
        settings = {"help_option_names": ["-h", "--help"]} | (context_settings or {})
        super().__init__(name, context_settings=settings, **attributes)
        self._events = events

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self._events:  # before anything of it can be wrong
            ctx.ensure_object(Cli).events = True
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out of some, and the hint names our --help
            raise

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *GLOBAL_OPTIONS]

    def invoke(self, ctx: click.Context) -> Any:
        """As click's; whoever is told of a wrong command line is told where the right one is written down."""
        cli, path = ctx.ensure_object(Cli), os.environ.get("RBEE_LOG")
        logging: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if not isinstance(self, click.Group) and (cli.debug or path):
            from rbee_ssh.cli.log import logged

            logging = logged(ctx.command_path, cli.console if cli.debug else None, path)
        try:
            with logging:
                return super().invoke(ctx)
        except Exception as error:
            from rbee_ssh.errors import UsageInvalid

            if isinstance(error, UsageInvalid) and error.hint is None:
                error.hint = f"{ctx.command_path} --help"
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [
            record
            for param in super().get_params(ctx)
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx))
        ]
        shared = [record for param in GLOBAL_OPTIONS if (record := param.get_help_record(ctx))]
        for title, records in (("Options", own), ("Global options", shared)):
            with formatter.section(title):
                formatter.write_dl(records)


class Group(Command, click.Group):
    """A group whose commands are listed in the order in which they were written down."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        Command.format_options(self, ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            self._unknown(ctx, args[0])
        return super().resolve_command(ctx, args)

    def _unknown(self, ctx: click.Context, word: str) -> NoReturn:
        from rbee_ssh.wording import nearest, quoted

        known = self.list_commands(ctx)
        near = nearest(word, known)
        raise click.UsageError(
            f"no command {quoted(word)}; "
            + (f"did you mean {quoted(near)}?" if near else f"there are {', '.join(known)}"),
            ctx=ctx,
        )


class LazyGroup(Group):
    """A group whose commands are imported when one is called or the help lists them.

    Args:
        lazy: name of a command → "module:attribute" where it is.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


def command(name: str | None = None, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """A decorator: the function becomes a command with the global options."""
    return click.command(name, cls=Command, **attributes)


def group(name: str | None = None, **attributes: Any) -> Callable[[Callable[..., Any]], Group]:
    """A decorator: the function becomes a group whose commands have the global options."""
    return click.group(name, cls=Group, **attributes)


def options(*each: Callable[[Callable[..., Any]], Any]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: the function has all of these options, in their order."""

    def give(function: Callable[..., Any]) -> Any:
        for option in reversed(each):
            function = option(function)
        return function

    return give


tag_option = click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="The nodes with this tag. May be repeated."
)
"""Nodes by tag, for `Cli.nodes`: together with those that are named."""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic for the checker only, before click 8.5
    """A span of time such as 90, 90s, 5m or 1h30m; the value is its seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from rbee_ssh.durations import duration
        from rbee_ssh.wording import quoted

        try:
            return duration(value)
        except ValueError as error:
            self.fail(f"{quoted(str(value))}: {error}", param, ctx)


DURATION = Duration()


class Age(Duration):
    """A span with its unit: 30 may mean days to one and seconds to another, and what it removes is gone."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if str(value).strip("0123456789. ") == "" and str(value).strip("0. "):
            self.fail(f"{value} of what? {value}d is days, {value}h is hours", param, ctx)
        return super().convert(value, param, ctx)


AGE = Age()
