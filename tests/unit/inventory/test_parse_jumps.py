from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory import Inventory, parse

FILE = Path("/etc/lab/inventory.toml")
HOME = Path("/home/me")


def read(text: str) -> Inventory:
    return parse(text, FILE, home=HOME)


def faults(text: str) -> dict[str, str]:
    """Key path → problem, of an inventory that must be refused."""
    with pytest.raises(InventoryInvalid) as caught:
        read(text)
    assert caught.value.exit_status == 2
    return {fault["key"]: fault["problem"] for fault in caught.value.details["faults"]}


def nodes(jumps: dict[str, Any]) -> str:
    return "".join(f"[nodes.{name}]\nhost = 'h'\njump = {jump!r}\n" for name, jump in jumps.items())


@pytest.mark.parametrize(
    ("jumps", "key", "way"),
    [
        ({"a": ["a"]}, "nodes.a.jump", "a → a"),
        ({"a": ["x", "a", "a"]}, "nodes.a.jump", "a → a"),
        ({"a": ["b"], "b": ["a"]}, "nodes.a.jump", "a → b → a"),
        ({"z": ["a"], "a": ["b", "x"], "b": "c", "c": "a"}, "nodes.a.jump", "a → b → c → a"),
    ],
)
def test_a_node_that_jumps_through_itself(jumps: dict[str, Any], key: str, way: str) -> None:
    found = faults(nodes(jumps))
    assert found == {key: f"jumps through itself: {way}"}


@pytest.mark.parametrize(
    "jumps",
    [
        {"a": ["b", "c"], "b": [], "c": ["b"]},
        {"a": ["b"], "b": ["x@a"]},  # a host that happens to be called as a node
        {"a": ["b", "c"], "b": [], "c": ["a"]},  # c is reached through b; its own jump is not used
    ],
)
def test_jumps_that_come_to_an_end(jumps: dict[str, Any]) -> None:
    assert set(read(nodes(jumps)).nodes) == set(jumps)


def test_a_jump_of_the_defaults_that_the_jump_host_inherits() -> None:
    text = "[defaults]\njump = 'gate'\n[nodes.gate]\nhost = 'g'\n[nodes.a]\nhost = 'a'\n"
    assert faults(text) == {
        "defaults.jump": "jumps through itself: gate → gate; `jump = []` in [nodes.gate] ends it"
    }
    assert read(text.replace("'g'", "'g'\njump = []")).nodes["a"].jump == ("gate",)


def test_a_chain_of_thousands_of_hops() -> None:
    chain = {f"n{number}": [f"n{number + 1}"] for number in range(3000)}
    assert len(read(nodes(chain)).nodes) == 3000
    assert "→" in faults(nodes(chain | {"n3000": ["n0"]}))["nodes.n0.jump"]
