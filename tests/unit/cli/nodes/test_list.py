"""`rbee nodes list`."""

from __future__ import annotations

from rbee_ssh.cli.nodes.list import LIST_COLUMNS, list_row
from rbee_ssh.cli.text import table
from rbee_ssh.inventory import Node


def test_the_inventory_as_a_table() -> None:
    node = Node("gpu1", "10.0.0.1", port=2222, user="ann", jump=("gate", "inner"), tags=("a", "b"))
    assert table(LIST_COLUMNS, [list_row(node)]) == [
        "NAME  HOST      USER  PORT  JUMP          ENGINE  BACKEND  TAGS",
        "gpu1  10.0.0.1  ann   2222  gate → inner  auto    auto     a,b",
    ]
