"""`rbee models`: the files that nodes serve. Each command is in a file of its own."""

from __future__ import annotations

import click

from rbee_ssh.cli.options import LazyGroup

# Imported when one is called or the help lists them: name → "module:attribute".
COMMANDS: dict[str, str] = {
    "pull": "rbee_ssh.cli.models_pull:pull",
    "show": "rbee_ssh.cli.models_show:show",
    "push": "rbee_ssh.cli.models_push:push",
    "copy": "rbee_ssh.cli.models_copy:copy",
    "list": "rbee_ssh.cli.models_list:list_",
    "verify": "rbee_ssh.cli.models_verify:verify",
    "rm": "rbee_ssh.cli.models_rm:rm",
    "prune": "rbee_ssh.cli.models_rm:prune",
}


@click.group("models", cls=LazyGroup, lazy=COMMANDS, short_help="The model files on the nodes.")
def models() -> None:
    """Get model files to the nodes, and see what is there."""
