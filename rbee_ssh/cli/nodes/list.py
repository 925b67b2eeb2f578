"""`rbee nodes list`: the inventory as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.text import Column

if TYPE_CHECKING:
    from rbee_ssh.inventory import Node

LIST_COLUMNS = (
    Column("NAME"),
    Column("HOST", keep="start"),
    Column("USER"),
    Column("PORT", right=True),
    Column("JUMP", keep="start"),
    Column("ENGINE"),
    Column("BACKEND"),
    Column("TAGS", keep="start"),
)


@command("list", short_help="List the nodes of the inventory.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@tag_option
@pass_cli
def list_(cli: Cli, names: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """List these nodes of the inventory, or all, without connecting to any.

    \b
      rbee nodes list
      rbee nodes list --tag gpu
      rbee --inventory ./lab.toml nodes list --json | jq -r '.nodes[].name'
    """
    inventory = cli.inventory()
    found = [inventory.nodes[name] for name in cli.nodes(names, tags)]
    if cli.as_json:
        from rbee_ssh.cli import shapes

        cli.console.json({"nodes": [shapes.listed_node(node) for node in found]})
    else:
        cli.console.table(LIST_COLUMNS, [list_row(node) for node in found])


def list_row(node: Node) -> list[str]:
    return [
        node.name,
        node.host,
        node.user or "",
        "" if node.port is None else str(node.port),
        " → ".join(node.jump),
        node.engine,
        node.backend,
        ",".join(node.tags),
    ]
