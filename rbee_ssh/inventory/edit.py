"""Nodes put into the text of an inventory and taken out of it. Text in, text out.

What somebody wrote by hand stays as it is, byte for byte: a node is lines put in or taken out, at a place
that leaves comments with what they speak of. Where nodes stand in another form (inline tables, dotted keys),
tomlkit changes the document. Whichever it was, the result is read again, and counts only when it says what it
should.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable

from rbee_ssh.errors import InventoryInvalid, NodeExists, NodeUnknown
from rbee_ssh.inventory.lines import Section, sections
from rbee_ssh.wording import quoted

Keys = Mapping[str, Any]

_COMMENT = re.compile(r"\s*#")
# A setting or a table that is switched off. Prose has no `=` behind its first word.
_OFF_SETTING = re.compile(r"\s*#\s*[A-Za-z0-9_-]+\s*=")
_OFF_TABLE = re.compile(r"\s*#\s*\[")
_RULER = re.compile(r"\s*#[\W_]*$")


def with_node(text: str, name: str, keys: Keys, *, replace: bool = False) -> str:
    """The inventory with one node more, behind the last one there is; or with that node's keys exchanged.

    Args:
        text: TOML without a fault.
        name: a node's name that the inventory's parser takes.
        keys: the keys of its table: strings, integers, arrays of strings, tables of strings.
        replace: a node of that name is given exactly these keys, where it stands.

    Raises:
        NodeExists: there is such a node, and `replace` is false.
        InventoryInvalid: the text is of a form that cannot be edited here.
    """
    expected = _document(text)
    nodes = expected.setdefault("nodes", {})
    if name in nodes and not replace:
        raise NodeExists(
            f"there is a node {quoted(name)} already: host = {quoted(str(nodes[name].get('host', '')))}",
            hint="--replace gives it these settings in place of its own",
            details={"node": name},
        )
    there = name in nodes
    nodes[name] = dict(keys)
    first = _exchanged if there else _inserted
    return _right(text, expected, lambda: first(text, name, keys), lambda: _set(text, name, keys))


def without_node(text: str, name: str) -> str:
    """The inventory without that node. A comment right above its table goes with it.

    Raises:
        NodeUnknown: there is none of that name.
        InventoryInvalid: the text is of a form that cannot be edited here.
    """
    expected = _document(text)
    if name not in expected.get("nodes", {}):
        raise NodeUnknown(f"no node {quoted(name)} in the inventory", details={"node": name})
    del expected["nodes"][name]
    return _right(text, expected, lambda: _cut(text, name), lambda: _unset(text, name))


def _document(text: str) -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(text))


def _right(text: str, expected: dict[str, Any], *edits: Callable[[], str]) -> str:
    """What the first of these edits makes of the text that says what it should."""
    for edit in edits:
        try:
            changed = edit()
            if _plain(tomllib.loads(changed)) == _plain(expected):
                return changed
        except (TOMLKitError, ValueError, LookupError):
            continue
    raise InventoryInvalid(
        "the inventory's nodes are written in a form that rbee cannot change without harm",
        hint="edit the file by hand",
    )


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Without the difference between no nodes and no table of nodes."""
    return {key: value for key, value in document.items() if key != "nodes" or value}


# Lines. A row is a line without its line feed, so that joined rows are the text again.


def _inserted(text: str, name: str, keys: Keys) -> str:
    rows = text.split("\n")
    end = _place(rows, sections(text))
    before, after = rows[:end], rows[end:]
    chunk = tomlkit.dumps({"nodes": {name: _table(keys)}}).rstrip("\n").split("\n")
    if before and before[-1].strip():
        chunk.insert(0, "")
    if after and after[0].strip():
        chunk.append("")
    if rows[0].endswith("\r"):
        chunk = [f"{row}\r" for row in chunk]
        if not after and before:
            before[-1] += "\r"
    return "\n".join([*before, *chunk, *(after or [""])])


def _place(rows: list[str], tables: list[Section]) -> int:
    """The row before which a new node goes: behind the last node, else at the end of the file."""
    at = max((i for i, table in enumerate(tables) if table.path[:1] == ("nodes",)), default=None)
    if at is not None:
        return _end(rows, tables, at)
    end = len(rows)
    while end and not rows[end - 1].strip():
        end -= 1
    return end


def _end(rows: list[str], tables: list[Section], at: int) -> int:
    """How many rows there are up to the end of a table: its last value, or a setting behind it that is off.

    Comments behind an empty line speak of what follows, and so does one right above the next header.
    """
    follows = tables[at + 1].first - 1 if at + 1 < len(tables) else len(rows)
    end = tables[at].last
    for number in range(end, follows):
        row = rows[number]
        if _OFF_TABLE.match(row):
            break
        if _OFF_SETTING.match(row):
            end = number + 1
    while end < follows and _COMMENT.match(rows[end]) and not _OFF_TABLE.match(rows[end]):
        end += 1
    if end == follows and at + 1 < len(tables):
        # No empty line in between: the comments are the next table's.
        while end > tables[at].last and not _OFF_SETTING.match(rows[end - 1]):
            end -= 1
    return end


def _cut(text: str, name: str) -> str:
    rows = text.split("\n")
    tables = sections(text)
    for at in reversed(range(len(tables))):
        if tables[at].path[:2] != ("nodes", name):
            continue
        start, end = tables[at].first - 1, _end(rows, tables, at)
        start = _own_comment(rows, start)
        if start == 0 or not rows[start - 1].strip():
            while end < len(rows) - 1 and not rows[end].strip():
                end += 1
        del rows[start:end]
        if not any(row.strip() for row in rows[start:]):
            # The empty lines that stood before the last table are not to stand at the end.
            while start and not rows[start - 1].strip():
                start -= 1
                del rows[start]
            if start and rows[start:] != [""]:
                rows[start:] = [""]
    return "\n".join(rows)


def _own_comment(rows: list[str], start: int) -> int:
    """Where the comment right above a table begins, unless it is the file's own or a section's heading."""
    above = start
    while above and _COMMENT.match(rows[above - 1]):
        above -= 1
    comment = rows[above:start]
    if above == 0 or rows[above - 1].strip():
        return start
    if any(pattern.match(row) for row in comment for pattern in (_RULER, _OFF_SETTING, _OFF_TABLE)):
        return start
    return above


def _exchanged(text: str, name: str, keys: Keys) -> str:
    """The table's own lines with other keys; tables below it (env) are taken out."""
    rows = text.split("\n")
    tables = sections(text)
    own = [at for at, table in enumerate(tables) if table.path[:2] == ("nodes", name)]
    (main,) = (at for at in own if tables[at].path == ("nodes", name))
    for at in reversed(own):
        start, end = tables[at].first - 1, tables[at].last
        if at != main:
            end = _end(rows, tables, at)
            while start and not rows[start - 1].strip():
                start -= 1
            del rows[start:end]
            continue
        crlf = "\r" if rows[start].endswith("\r") else ""
        document = tomlkit.parse("".join(f"{row.removesuffix(crlf)}\n" for row in rows[start:end]))
        _give(document["nodes"][name], keys)
        rows[start:end] = [row + crlf for row in tomlkit.dumps(document).removesuffix("\n").split("\n")]
    return "\n".join(rows)


# The document, for nodes that have no header of their own.


def _set(text: str, name: str, keys: Keys) -> str:
    document = tomlkit.parse(text)
    nodes = document["nodes"]
    if name in nodes:
        _give(nodes[name], keys)
    else:
        inline = tomlkit.inline_table()
        inline.update(_table(keys))
        nodes[name] = inline
    return tomlkit.dumps(document)


def _unset(text: str, name: str) -> str:
    document = tomlkit.parse(text)
    del document["nodes"][name]
    return tomlkit.dumps(document)


def _give(table: AbstractTable, keys: Keys) -> None:
    """Exactly these keys; what is the same already stays as it is written."""
    for key in [key for key in table if key not in keys]:
        del table[key]
    for key, value in _table(keys).items():
        if key not in table or table[key].unwrap() != keys[key]:
            table[key] = value


def _table(keys: Keys) -> dict[str, Any]:
    """The values as TOML, tables on one line."""
    values: dict[str, Any] = {}
    for key, value in keys.items():
        values[key] = value
        if isinstance(value, Mapping):
            values[key] = tomlkit.inline_table()
            values[key].update(value)
    return values
