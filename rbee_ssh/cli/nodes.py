"""`rbee nodes`: the machines of the inventory. Each command is in a file of its own."""

from __future__ import annotations

import click

from rbee_ssh.cli.options import LazyGroup

COMMANDS = {
    "list": "rbee_ssh.cli.nodes_list:list_",
    "status": "rbee_ssh.cli.nodes_status:status",
    "add": "rbee_ssh.cli.nodes_add:add",
    "import": "rbee_ssh.cli.nodes_import:import_",
    "remove": "rbee_ssh.cli.nodes_remove:remove",
    "trust": "rbee_ssh.cli.nodes_trust:trust",
    "check": "rbee_ssh.cli.nodes_check:check",
    "setup": "rbee_ssh.cli.nodes_setup:setup",
    "run": "rbee_ssh.cli.nodes_run:run",
}


@click.group("nodes", cls=LazyGroup, lazy=COMMANDS, short_help="The machines: add, list, ask how they are.")
def nodes() -> None:
    """Add machines to the inventory, list them, ask how they are, and trust their host keys."""
