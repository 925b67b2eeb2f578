"""`rbee models`: the files that nodes serve. Each command is in a file of its own."""

from __future__ import annotations

import click

from rbee_ssh.cli.options import LazyGroup

# Imported when one is called or the help lists them: name → "module:attribute".
COMMANDS: dict[str, str] = {
    "pull": "rbee_ssh.cli.models.pull:pull",
    "show": "rbee_ssh.cli.models.show:show",
    "push": "rbee_ssh.cli.models.push:push",
    "copy": "rbee_ssh.cli.models.copy:copy",
    "list": "rbee_ssh.cli.models.list:list_",
    "verify": "rbee_ssh.cli.models.verify:verify",
    "rm": "rbee_ssh.cli.models.remove:rm",
    "prune": "rbee_ssh.cli.models.remove:prune",
}


@click.group("models", cls=LazyGroup, lazy=COMMANDS, short_help="The model files on the nodes.")
def models() -> None:
    """Get model files to the nodes, and see what is there."""
