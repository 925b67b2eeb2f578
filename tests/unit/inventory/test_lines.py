from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbee_ssh.inventory.lines import DEPTH, lines

DOCUMENT = '''\
# nodes.a.host = "a comment"
[nodes.a] # [nodes.b]
host = "x = [1" # host = 2
nodes."b.c".'d e'.port = 22
env = { A = "1", "B.x" = 'q', C = { D = 1 } }
tags = [ "a", # c ] "
  "b", [ 1,
  2 ],
  """x = 1
y"""""  , 'z'
  ]
when = 1979-05-27 07:32:00 # a date with a space

  [ nodes . "\\u00e4\\"" ]
host = """
[nodes.fake]
\\""" still in it
"""
port=22
[[models]]
a.b.c.d.e.f = 1
"" = ''
'''


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("nodes",), 2),
        (("nodes", "a"), 2),
        (("nodes", "a", "host"), 3),
        (("nodes", "a", "nodes", "b.c"), 4),
        (("nodes", "a", "env"), 5),
        (("nodes", "a", "env", "A"), 5),
        (("nodes", "a", "env", "B.x"), 5),
        (("nodes", "a", "tags"), 6),
        (("nodes", "a", "tags", 0), 6),
        (("nodes", "a", "tags", 1), 7),
        (("nodes", "a", "tags", 2), 7),
        (("nodes", "a", "tags", 3), 9),
        (("nodes", "a", "tags", 4), 10),
        (("nodes", "a", "when"), 12),
        (("nodes", 'ä"'), 14),
        (("nodes", 'ä"', "host"), 15),
        (("nodes", 'ä"', "port"), 19),
        (("models",), 20),
        (("models", "a", "b", "c"), 21),
        (("models", ""), 22),
    ],
)
def test_where_things_are(where: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(DOCUMENT)
    assert lines(DOCUMENT)[where] == line


def test_what_only_looks_like_a_key_is_none() -> None:
    found = lines(DOCUMENT)
    assert ("nodes", "fake") not in found
    assert ("nodes", "b") not in found
    assert ("nodes", "a", "tags", 5) not in found
    assert max(len(where) for where in found) == DEPTH


def test_a_header_wins_over_the_children_that_stand_before_it() -> None:
    found = lines("[nodes.a.env]\nX = '1'\n[nodes.a]\nhost = 'h'\n")
    assert found[("nodes", "a")] == 3
    assert found[("nodes",)] == 1


def test_windows_line_ends() -> None:
    assert lines("[a]\r\n# c\r\nb = [\r\n1,\r\n2]\r\n")[("a", "b", 1)] == 5


def test_text_that_is_no_toml_ends() -> None:
    assert lines("[nodes.a]\nhost = [ } ,,\n")[("nodes", "a")] == 1


@settings(deadline=None)
@given(st.text("[]{}=.,#'\"\\ab1 \n", max_size=60))
def test_any_text_ends(text: str) -> None:
    lines(text)


KEYS = st.text(min_size=0, max_size=4) | st.sampled_from(["a", "b", "host", "a.b", '"', "#", "="])
VALUES = st.recursive(
    st.sampled_from(
        ["1", "true", "1.5", '"]"', "'}'", '"#"', '"""\n"a"""""', "'''\n\n'''", "07:32:00", "0x1"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def _key(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" if not char.isalnum() else char for char in text) + '"'


def _value(value: Any, gap: str) -> str:
    if isinstance(value, list):
        return f"[{gap}" + f",{gap}".join(_value(element, gap) for element in value) + f"{gap}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner, gap)}" for key, inner in value.items()) + "}"
    return str(value)


def _paths(value: Any, above: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    below = (_paths(inner, (*above, key)) for key, inner in pairs)
    return {(*above, key) for key, _ in pairs}.union(*below) if pairs else set()


@settings(deadline=None)
@given(
    st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=3),
    st.sampled_from(["", " ", "\n", " # ]\n "]),
)
def test_finds_what_tomllib_finds_and_nothing_else(document: dict[str, Any], gap: str) -> None:
    text = ""
    written: dict[tuple[str | int, ...], int] = {}
    for name, table in document.items():
        written[(name,)] = text.count("\n") + 1
        text += f"[{_key(name)}]{gap.strip()}\n"
        for key, value in table.items():
            written[(name, key)] = text.count("\n") + 1
            text += f"{_key(key)} = {_value(value, gap)}\n"
    read = tomllib.loads(text)
    found = lines(text)
    assert {path: found[path] for path in written} == written
    assert set(found) == {path for path in _paths(read) if len(path) <= DEPTH}
