"""`rbee nodes add`: options to keys, and what is said when something stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.cli.nodes.add import add, checked, command_line, localhost_lost, node_keys
from rbee_ssh.cli.nodes.remove import dependents
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.inventory import Inventory, Node, parse, schema
from rbee_ssh.inventory.edit import with_node
from rbee_ssh.inventory.find import InventorySource


def keys(**given: Any) -> dict[str, Any]:
    """The keys of node n, for somebody whose home is /home/me and who stands in /work."""
    none: dict[str, Any] = dict.fromkeys(schema.NODE)
    return node_keys("n", none | given, "/home/me", lambda path: str(Path("/desk", path)))


def test_every_key_has_an_option() -> None:
    click_names = {param.name for param in add.params}
    assert set(schema.NODE) <= click_names
    given = dict.fromkeys(schema.NODE, "x") | {"jump": ("a",), "env": ("a=b",)}
    assert set(keys(**given)) == set(schema.NODE)


def test_keys() -> None:
    assert keys() == {"host": "n"}
    assert keys(
        host="h",
        port=22,
        jump=("a, b", "c"),
        tags=("x", "y"),
        env=("A=1=2", "B="),
        setup=("x.py:y",),
    ) == {
        "host": "h",
        "port": 22,
        "jump": ["a", "b", "c"],
        "tags": ["x", "y"],
        "env": {"A": "1=2", "B": ""},
        "setup": ["x.py:y"],
    }
    with pytest.raises(UsageInvalid, match="NAME=VALUE"):
        keys(env=("A",))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("/home/me/.ssh/id", "~/.ssh/id"),
        ("/home/meg/.ssh/id", "/home/meg/.ssh/id"),
        ("key", "/desk/key"),
        ("~/.ssh/id", "~/.ssh/id"),
    ],
)
def test_a_key_file_is_written_so_that_it_is_found_from_everywhere(given: str, written: str) -> None:
    assert keys(identity_file=given)["identity_file"] == written


def test_the_command_of_a_hint_can_be_pasted_and_tells_no_secret() -> None:
    given = {"host": "h", "models_dir": "/a b", "tags": ["x", "y"], "env": {"TOKEN": "secret"}}
    assert command_line("n", given, True) == (
        "rbee nodes add n --host h --models-dir '/a b' --tag x --tag y --env 'TOKEN=…' --replace"
    )


def test_what_cannot_be_a_node_is_the_command_lines_fault_not_the_files() -> None:
    draft = InventorySource(Path("/x/inventory.toml"), "inventory.toml", "", None)
    text = with_node("", "n", {"host": "-h", "backend": "cudda", "env": {"RBEE_X": "secret"}})
    with pytest.raises(UsageInvalid) as caught:
        checked(draft, text, "n")
    for part in ("nodes.n.host", 'did you mean "cuda"', "RBEE_"):
        assert part in caught.value.message
    assert "secret" not in caught.value.message and caught.value.hint is None


def test_this_machine_is_said_to_be_no_node_any_more() -> None:
    none, one = parse("", None), parse('[nodes.a]\nhost = "a"\n', None)
    assert "rbee nodes add localhost" in (localhost_lost(none, one) or "")
    assert localhost_lost(one, parse('[nodes.a]\nhost = "a"\n[nodes.b]\nhost = "b"\n', None)) is None


def test_who_is_reached_through_what_goes() -> None:
    nodes = [Node("a", "a"), Node("b", "b", jump=("x", "a")), Node("c", "c", jump=("b",))]
    inventory = Inventory({node.name: node for node in nodes})
    assert dependents(inventory, ["a"]) == [("b", "a")]
    assert dependents(inventory, ["a", "b"]) == [("c", "b")]
    assert dependents(inventory, ["a", "b", "c"]) == []
