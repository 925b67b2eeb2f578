"""Whatever a file holds, it is an inventory or one of our own errors, in bounded time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rbee_ssh.errors import InventoryInvalid, RbeeError
from rbee_ssh.inventory import Inventory, Node, load, parse, schema
from rbee_ssh.wording import has_control

FILE = Path("/etc/lab/inventory.toml")
HOME = Path("/home/me")

NASTY = st.sampled_from(
    [
        "",
        "-x",
        "--",
        "a b",
        "a'b",
        'a"b',
        "a;b",
        "$(id)",
        "`id`",
        "a\nb",
        "a\x00b",
        "\x1b[31m",
        "größe",
        "..",
        "/",
        "~/x",
        "/a",
        "a,b",
        "me@h:1",
        "auto",
        "cuda",
        "5m",
        "0,1",
        "x.py:y",
        "localhost",
        "a",
        "\u202e",
        "🐝",
    ]
)
WORDS = NASTY | st.text(max_size=8)
SCALARS: st.SearchStrategy[Any] = (
    WORDS | st.integers() | st.sampled_from([10**30, -1, 0, 1, 65536]) | st.floats() | st.booleans()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def keys(*known: str) -> st.SearchStrategy[str]:
    return st.sampled_from(known) | WORDS


def table(*known: str) -> st.SearchStrategy[Any]:
    return st.dictionaries(keys(*known), VALUES, max_size=6) | VALUES


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "defaults": table(*schema.DEFAULTS),
        "nodes": st.dictionaries(keys("a", "b", "localhost"), table(*schema.NODE), max_size=3) | VALUES,
        "models": st.dictionaries(keys("m"), table(*schema.MODEL), max_size=2) | VALUES,
        "timeouts": table(*schema.TIMEOUTS),
        "nods": VALUES,
    },
)


def written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)} = {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(inner) for inner in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(char if char.isalnum() else f"\\U{ord(char):08x}" for char in value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def check(error: RbeeError) -> None:
    assert error.exit_status == 2
    assert not has_control(error.message.replace("\n", ""))
    json.dumps(error.as_json())


@settings(deadline=None)
@given(DOCUMENTS)
@example({"nodes": {"a": {"host": "h", "env": {"A": ["x"]}}}})
def test_any_toml(document: dict[str, Any]) -> None:
    text = "".join(f"{written(key)} = {written(value)}\n" for key, value in document.items())
    try:
        inventory = parse(text, FILE, home=HOME)
    except InventoryInvalid as error:
        check(error)
        assert error.details["faults"]
        # Every fault is of something that stands on a line.
        assert all(fault["line"] for fault in error.details["faults"])
    else:
        assert isinstance(inventory, Inventory)
        for name, node in inventory.nodes.items():
            assert isinstance(node, Node)
            assert not name.startswith("-")
            for word in (name, node.host, node.user or "u", *node.jump):
                assert not word.startswith("-")
                assert not has_control(word)
                assert word.split() == [word]
            hash(node)


@settings(deadline=None)
@given(st.text(max_size=200) | st.text("[]{}=.,#'\"\\nodes.a host1\n", max_size=200))
def test_any_text(text: str) -> None:
    try:
        parse(text, FILE, home=HOME)
    except InventoryInvalid as error:
        check(error)


def test_any_bytes(tmp_path_factory: Any) -> None:
    directory: Path = tmp_path_factory.mktemp("bytes")
    path = directory / "inventory.toml"

    @settings(deadline=None)
    @given(st.binary(max_size=200), st.booleans())
    def run(data: bytes, named: bool) -> None:
        path.write_bytes(data)
        path.chmod(0o600)
        try:
            load(path if named else None, environ={}, cwd=directory, warn=lambda text: None)
        except RbeeError as error:
            check(error)

    run()
