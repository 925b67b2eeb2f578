"""`rbee nodes`: the machines of the inventory. Each command is in a file of its own."""

from __future__ import annotations

import click

from rbee_ssh.cli.options import LazyGroup

COMMANDS = {
    "list": "rbee_ssh.cli.nodes_list:list_",
    "status": "rbee_ssh.cli.nodes_status:status",
    "add": "rbee_ssh.cli.nodes_add:add",
    "remove": "rbee_ssh.cli.nodes_remove:remove",
    "check": "rbee_ssh.cli.nodes_check:check",
    "setup": "rbee_ssh.cli.nodes_setup:setup",
    "trust": "rbee_ssh.cli.nodes_trust:trust",
}


@click.group("nodes", cls=LazyGroup, lazy=COMMANDS, short_help="The machines: add, list, ask how they are.")
def nodes() -> None:
    """Add machines to the inventory, list them, ask how they are, and trust their host keys."""
