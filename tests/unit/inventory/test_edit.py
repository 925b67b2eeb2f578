"""Nodes put into an inventory's text and taken out of it: the rest stays, byte for byte."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rbee_ssh.errors import InventoryInvalid, NodeExists, NodeUnknown
from rbee_ssh.inventory import parse
from rbee_ssh.inventory.edit import with_node, without_node

SAMPLE = (Path(__file__).parents[3] / "inventory.toml").read_text()
NEW = {"host": "10.0.0.9"}


def is_inserted(before: str, after: str) -> bool:
    """Whether `after` is `before` with one piece put in."""
    same = next((i for i, pair in enumerate(zip(before, after, strict=False)) if len(set(pair)) > 1), None)
    start = len(before) if same is None else same
    # Equal characters at the seam can be counted to either side.
    return any(after.startswith(before[:at]) and after.endswith(before[at:]) for at in range(start, -1, -1))


def nodes(text: str) -> dict[str, Any]:
    return dict(tomllib.loads(text).get("nodes", {}))


def test_the_first_node_of_an_empty_file() -> None:
    keys = {"host": "h", "port": 22, "tags": ["a", "b"], "env": {"A": 'x"y', "B": "1"}}
    assert with_node("", "gpu1", keys) == (
        '[nodes.gpu1]\nhost = "h"\nport = 22\ntags = ["a", "b"]\nenv = {A = "x\\"y", B = "1"}\n'
    )


def test_a_new_node_stands_behind_the_last_one_and_before_what_follows() -> None:
    changed = with_node(SAMPLE, "gpu1", NEW)
    assert (
        '[nodes.localhost]\nhost = "localhost"\n\n[nodes.gpu1]\nhost = "10.0.0.9"\n\n'
        "# A node with every key there is." in changed
    )
    assert is_inserted(SAMPLE, changed)
    assert without_node(changed, "gpu1") == SAMPLE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # settings that are off belong to the table above them
        (
            '[nodes.a]\nhost = "a"\n#user = "me"\n\n# port, too:\n#port = 2\n\n'
            '# Models\n[models.m]\nsource = "m"\n',
            '[nodes.a]\nhost = "a"\n#user = "me"\n\n# port, too:\n#port = 2\n\n'
            '[nodes.n]\nhost = "10.0.0.9"\n\n'
            '# Models\n[models.m]\nsource = "m"\n',
        ),
        # nothing between two tables: the comment is the second one's
        (
            '[nodes.a]\nhost = "a"\n# of m\n[models.m]\nsource = "m"',
            '[nodes.a]\nhost = "a"\n\n[nodes.n]\nhost = "10.0.0.9"\n\n# of m\n[models.m]\nsource = "m"',
        ),
        # a comment below the last value, then an empty line
        (
            '[nodes.a]\nhost = "a"\n# its own\n\n',
            '[nodes.a]\nhost = "a"\n# its own\n\n[nodes.n]\nhost = "10.0.0.9"\n\n',
        ),
        # no line feed at the end; none at all
        ('[nodes.a]\nhost = "a"', '[nodes.a]\nhost = "a"\n\n[nodes.n]\nhost = "10.0.0.9"\n'),
        ("# mine", '# mine\n\n[nodes.n]\nhost = "10.0.0.9"\n'),
        # as Windows ends its lines
        ('[nodes.a]\r\nhost = "a"', '[nodes.a]\r\nhost = "a"\r\n\r\n[nodes.n]\r\nhost = "10.0.0.9"\r\n'),
        # a header in a string is none
        (
            '[nodes.a]\nhost = "a"\n[models.m]\nsource = "m"\nargs = ["""\n[nodes.x]\n"""]\n',
            '[nodes.a]\nhost = "a"\n\n[nodes.n]\nhost = "10.0.0.9"\n\n'
            '[models.m]\nsource = "m"\nargs = ["""\n[nodes.x]\n"""]\n',
        ),
        # other ways to write nodes
        (
            'nodes = { a = {host = "a"} } # one\n',
            'nodes = { a = {host = "a"}, n = {host = "10.0.0.9"}} # one\n',
        ),
        ('nodes.a.host = "a"\n', 'nodes.a.host = "a"\n\n[nodes.n]\nhost = "10.0.0.9"\n'),
        ('[nodes]\na = {host = "a"}\n', '[nodes]\na = {host = "a"}\n\n[nodes.n]\nhost = "10.0.0.9"\n'),
    ],
)
def test_where_a_new_node_goes(before: str, after: str) -> None:
    assert with_node(before, "n", NEW) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '# all of mine\n\n# The office.\n[nodes.n] # it\nhost = "n"\n#user = "x"\n\n'
            '# Home.\n[nodes.b]\nhost = "b"\n',
            '# all of mine\n\n# Home.\n[nodes.b]\nhost = "b"\n',
        ),
        ('# the file\n[nodes.n]\nhost = "n"\n', "# the file\n"),
        (
            '# -----\n# Nodes\n[nodes.n]\nhost = "n"\n\n[models.m]\nsource="m"',
            '# -----\n# Nodes\n\n[models.m]\nsource="m"',
        ),
        ('[nodes.a]\nhost = "a"\n\n[nodes.n]\nhost = "n"', '[nodes.a]\nhost = "a"\n'),
        ('[nodes.n]\nhost = "n"', ""),
        (
            '[nodes.n.env]\nA = "1"\n[nodes.a]\nhost = "a"\n[nodes.n]\nhost = """\nn"""\n# end\n',
            '[nodes.a]\nhost = "a"\n',
        ),
        ('nodes = { a = {host = "a"}, n = {host = "n"} }\n', 'nodes = { a = {host = "a"}  }\n'),
        ('nodes.n.host = "n"\nnodes.n.user = "u"\nnodes.a.host = "a"\n', 'nodes.a.host = "a"\n'),
        ('[nodes]\nn = {host = "n"}\na.host = "a"\n', '[nodes]\na.host = "a"\n'),
        ('[nodes."n"]\nhost = "n"\n\n\n[nodes.a]\nhost = "a"\n\n\n', '[nodes.a]\nhost = "a"\n\n\n'),
    ],
)
def test_what_goes_with_a_node(before: str, after: str) -> None:
    assert without_node(before, "n") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '# top\n[nodes.n]  # it\n# the address\nhost = "n"   # old\nuser = "x"\ntags=[ "a" ]\n\n'
            '[nodes.b]\nhost = "b"\n',
            '# top\n[nodes.n]  # it\n# the address\nhost = "new"   # old\ntags=[ "a" ]\nport = 1\n\n'
            '[nodes.b]\nhost = "b"\n',
        ),
        (
            '[nodes.n]\r\nhost = "n"\r\n[nodes.n.env]\r\nA = "1"\r\n\r\n[nodes.b]\r\nhost = "b"\r\n',
            '[nodes.n]\r\nhost = "new"\r\ntags = ["a"]\r\nport = 1\r\n\r\n[nodes.b]\r\nhost = "b"\r\n',
        ),
        ('nodes.n.host = "n"\n', 'nodes.n.host = "new"\nnodes.n.tags = ["a"]\nnodes.n.port = 1\n'),
    ],
)
def test_a_node_given_other_keys_stays_where_it_is(before: str, after: str) -> None:
    keys = {"host": "new", "tags": ["a"], "port": 1}
    with pytest.raises(NodeExists, match="already"):
        with_node(before, "n", keys)
    changed = with_node(before, "n", keys, replace=True)
    assert nodes(changed)["n"] == keys
    assert changed == after


def test_a_node_that_is_not_there() -> None:
    with pytest.raises(NodeUnknown):
        without_node(SAMPLE, "gone")


def test_what_cannot_be_changed_without_harm_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rbee_ssh.inventory.edit._inserted", lambda *_: "[nodes.other]")
    monkeypatch.setattr("rbee_ssh.inventory.edit._set", lambda *_: "not TOML")
    with pytest.raises(InventoryInvalid, match="without harm"):
        with_node(SAMPLE, "n", NEW)


# Inventories as people may write them: pieces in any order, with comments and empty lines in any place.
NAMES = st.sampled_from(["a", "b", "c-1", "größer", "n"])
SPACE = st.sampled_from(
    ["", "\n", "# about it\n", "\n# about it\n\n", "#off = 1\n", "#[nodes.off]\n", "# ---\n", "\n\n"]
)
VALUE = st.sampled_from(
    [
        'host = "h"',
        "host = 'h' # said",
        'host="h"\nport = 1\nuser = "x"',
        'host = "h"\ntags = [\n  "a", # one\n  "b",\n]',
    ]
)
NODE = st.builds(
    lambda space, name, value, tail: f'{space}[nodes."{name}"]\n{value}\n{tail}', SPACE, NAMES, VALUE, SPACE
)
OTHER = st.builds(
    lambda space, part, tail: f"{space}{part}\n{tail}",
    SPACE,
    st.sampled_from(
        [
            '[models.m]\nsource = "file:///m"\nargs = ["""\n[nodes.n]\n"""]',
            "[timeouts]\nterm = 3",
            "[defaults]\nport = 2",
        ]
    ),
    SPACE,
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    parts = draw(st.lists(NODE | OTHER, max_size=6))
    seen: dict[str, str] = {}
    for part in parts:
        header = next(line for line in part.splitlines() if line.startswith("["))
        seen.setdefault(header, part)
    text = draw(SPACE) + "".join(seen.values())
    text = text.removesuffix("\n") if draw(st.booleans()) else text
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


@given(texts())
@example(SAMPLE)
def test_what_was_there_stays_when_a_node_comes(text: str) -> None:
    if "n" in nodes(text):
        text = without_node(text, "n")
    changed = with_node(text, "n", NEW)
    assert is_inserted(text, changed)
    assert nodes(changed) == nodes(text) | {"n": NEW}
    assert list(nodes(changed))[-1] == "n"
    assert parse(changed, None).nodes["n"].host == "10.0.0.9"


@given(texts(), NAMES)
def test_what_was_there_stays_when_a_node_goes(text: str, name: str) -> None:
    before = nodes(text)
    if name not in before:
        with pytest.raises(NodeUnknown):
            without_node(text, name)
        return
    changed = without_node(text, name)
    assert is_inserted(changed, text), "more than one piece was taken"
    assert nodes(changed) == {other: keys for other, keys in before.items() if other != name}
    taken = len(text.splitlines()) - len(changed.splitlines())
    assert taken <= 14, "no more than the node's own lines and the empty ones around them"


@given(texts(), NAMES, st.dictionaries(st.sampled_from(["host", "user", "models_dir"]), st.text(max_size=20)))
def test_any_text_comes_back_as_it_was_given(text: str, name: str, keys: dict[str, str]) -> None:
    changed = with_node(text, name, keys, replace=True)
    assert nodes(changed) == nodes(text) | {name: keys}
