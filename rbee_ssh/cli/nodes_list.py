"""`rbee nodes list`: the inventory as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command
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
@pass_cli
def list_(cli: Cli) -> None:
    """List the nodes of the inventory, without connecting to any.

    \b
      rbee nodes list
      rbee --inventory ./lab.toml nodes list --json | jq -r '.nodes[].name'
    """
    found = list(cli.inventory().nodes.values())
    if cli.as_json:
        from rbee_ssh.cli import shapes

        cli.console.json({"nodes": [shapes.listed_node(node) for node in found]})
    else:
        cli.console.table(LIST_COLUMNS, [list_row(node) for node in found])


def list_row(node: Node) -> list[str]:
    """A node's line in `nodes list`."""
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
