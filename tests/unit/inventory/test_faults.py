"""How faults are told: all at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory import Inventory, parse

FILE = Path("/etc/lab/inventory.toml")
HOME = Path("/home/me")


def read(text: str) -> Inventory:
    return parse(text, FILE, home=HOME)


def places(text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(InventoryInvalid) as caught:
        read(text)
    return [(fault["line"], fault["key"]) for fault in caught.value.details["faults"]]


def test_all_faults_at_once_in_the_order_of_their_lines() -> None:
    text = """\
[timeouts]
start = "soon"

[nodes.a]
prot = 22
tags = [
  "ok",
  "not ok",
  7,
]
env = { "A B" = "1", C = "2",
}""".replace(",\n}", " }")
    assert places(text) == [
        (2, "timeouts.start"),
        (4, "nodes.a"),
        (5, "nodes.a.prot"),
        (8, "nodes.a.tags[1]"),
        (9, "nodes.a.tags[2]"),
        (11, 'nodes.a.env."A B"'),
    ]
    with pytest.raises(InventoryInvalid) as caught:
        parse(text, FILE, file="./inventory.toml")
    lines = caught.value.message.split("\n")
    assert lines[0] == "the inventory has 6 faults"
    assert lines[3] == './inventory.toml:5: nodes.a.prot: unknown key; did you mean "port"?'
    assert len(lines) == 7
    assert caught.value.hint == "${EDITOR:-vi} +2 ./inventory.toml"
    assert caught.value.details["file"] == "./inventory.toml"


def test_lines_of_dotted_keys_and_inline_tables() -> None:
    assert places("nodes.a.host = 'a'\nnodes.a.port = 0\nnodes.b = { host = 'b', port = 0 }") == [
        (2, "nodes.a.port"),
        (3, "nodes.b.port"),
    ]


def test_many_faults_are_all_in_the_details_and_the_first_in_the_text() -> None:
    text = "[nodes.a]\nhost = 'a'\n" + "".join(f"host{number} = 1\n" for number in range(2000))
    with pytest.raises(InventoryInvalid) as caught:
        read(text)
    assert len(caught.value.details["faults"]) == 2000
    assert caught.value.message.count("\n") == 101
    # Finding what was meant is slow, and nobody reads on.
    assert sum("did you mean" in fault["problem"] for fault in caught.value.details["faults"]) == 100
    assert caught.value.message.endswith("… and 1900 more")


def test_values_that_may_be_secret_are_not_repeated() -> None:
    with pytest.raises(InventoryInvalid) as caught:
        read("""
            [nodes.a]
            host = "a"
            env = { "HF TOKEN" = "hunter2", B = ["hunter2"], C = "hunter2\\u0000" }
            [models.m]
            source = "https://me:hunter2@x/\\n.gguf"
            args = ["--api-key", "hunter2\\u0000"]
        """)
    assert "hunter2" not in str(caught.value.as_json())
    assert len(caught.value.details["faults"]) == 5
