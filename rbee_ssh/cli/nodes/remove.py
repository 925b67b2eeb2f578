"""`rbee nodes remove`: a machine out of the inventory."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.wording import listed

if TYPE_CHECKING:
    from rbee_ssh.inventory import Inventory


@command(short_help="Take machines out of the inventory.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_cli
def remove(cli: Cli, names: tuple[str, ...]) -> None:
    """Take these nodes out of the inventory, with the comment that stands right above each.

    Nothing is sent to them: what runs there goes on until its lease is over, unless it is stopped first.

    \b
      rbee workers stop --node gpu1
      rbee nodes remove gpu1
    """
    from rbee_ssh.inventory import edit
    from rbee_ssh.inventory.save import save

    inventory = cli.inventory()
    wanted = cli.nodes(names)
    if inventory.path is None:
        raise UsageInvalid("there is no inventory: this machine is a node because there is none")
    if left := dependents(inventory, wanted):
        ways = "; ".join(f"{node} by way of {hop}" for node, hop in left)
        raise UsageInvalid(
            f"other nodes are reached through what is to be removed: {ways}",
            hint="remove those too, or change their jump",
            details={"dependents": [node for node, _ in left]},
        )
    running = {name: len(cli.registry().workers(name)) for name in wanted}

    def change(text: str) -> str:
        for name in wanted:
            text = edit.without_node(text, name)
        return text

    after = save(cli.draft(), change)
    console = cli.console
    if cli.as_json:
        console.json({"removed": wanted, "inventory": str(inventory.path)})
    else:
        console.line(f"removed {listed(wanted)} from {inventory.path}")
    for name, count in running.items():
        if count:
            what = f"{count} worker{'s' * (count != 1)} of {name}"
            console.warn(f"{what} may still run; a worker ends when its lease is over")
    if "localhost" in after.nodes and "localhost" not in inventory.nodes:
        console.say("no node is left in it, so this machine is one: localhost")


def dependents(inventory: Inventory, names: Collection[str]) -> list[tuple[str, str]]:
    """The nodes that stay, each with the first hop of it that does not."""
    return [
        (node.name, hop)
        for node in inventory.nodes.values()
        if node.name not in names
        for hop in [next((hop for hop in node.jump if hop in names), None)]
        if hop is not None
    ]
