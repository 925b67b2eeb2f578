"""`rbee nodes`: the machines of the inventory. Each command is in a file of its own."""

from __future__ import annotations

import click

from rbee_ssh.cli.options import LazyGroup

COMMANDS = {
    "list": "rbee_ssh.cli.nodes.list:list_",
    "status": "rbee_ssh.cli.nodes.status:status",
    "add": "rbee_ssh.cli.nodes.add:add",
    "import": "rbee_ssh.cli.nodes.importing:import_",
    "remove": "rbee_ssh.cli.nodes.remove:remove",
    "trust": "rbee_ssh.cli.nodes.trust:trust",
    "check": "rbee_ssh.cli.nodes.check:check",
    "setup": "rbee_ssh.cli.nodes.setup:setup",
    "run": "rbee_ssh.cli.nodes.run:run",
}


@click.group("nodes", cls=LazyGroup, lazy=COMMANDS, short_help="The machines: add, list, ask how they are.")
def nodes() -> None:
    """Add machines to the inventory, list them, ask how they are, and trust their host keys."""
