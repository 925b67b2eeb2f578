"""The command reference, as the commands' own help tells it. Used by scripts/reference and its test."""

from __future__ import annotations

from collections.abc import Iterator

import click

from rbee_ssh.cli.context import Cli
from rbee_ssh.cli.main import root

WIDTH = 100
HEADER = """# Commands

Every command, as its `--help` shows it. This page is generated: run `scripts/reference` after a change.
The global options can stand before and after a command's name, and are shown once, at the top.
"""


def reference() -> str:
    parts = [HEADER]
    for ctx in _contexts(root, None, "rbee"):
        text = ctx.get_help()
        if ctx.parent is not None:
            text = text.partition("\n\nGlobal options:\n")[0]
        parts.append(f"## {ctx.command_path}\n\n```text\n{text.strip()}\n```\n")
    return "\n".join(parts)


def _contexts(command: click.Command, parent: click.Context | None, name: str) -> Iterator[click.Context]:
    """A context for this command and for each below it, in the order of the help."""
    # The width is given, so that the page is the same whoever's terminal writes it.
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    ctx = click.Context(
        command, info_name=name, parent=parent, obj=Cli(), **{**command.context_settings, **settings}
    )
    yield ctx
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            if found is not None and not found.hidden:
                yield from _contexts(found, ctx, below)
