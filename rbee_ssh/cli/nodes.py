"""`rbee nodes`: the machines of the inventory. Each command is in a file of its own."""

from __future__ import annotations

import click

from rbee_ssh.cli.options import LazyGroup

COMMANDS = {
    "list": "rbee_ssh.cli.nodes_list:list_",
    "status": "rbee_ssh.cli.nodes_status:status",
    "trust": "rbee_ssh.cli.nodes_trust:trust",
}


@click.group("nodes", cls=LazyGroup, lazy=COMMANDS, short_help="The machines: list them, ask how they are.")
def nodes() -> None:
    """List the machines of the inventory, ask how they are, and trust their host keys."""
