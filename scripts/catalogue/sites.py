"""Where the code raises which error, with which words: read from the source, so that it cannot go stale."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """One place that makes an error. Values that are known only then stand as ‹name›."""

    message: str
    hint: str


def sites(files: Iterable[Path], classes: Iterable[str]) -> dict[str, set[Site]]:
    """The places that make an error of one of these classes, by class."""
    names = set(classes)
    found: dict[str, set[Site]] = {name: set() for name in names}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := _last(node.func)) in names and node.args:
                hint = next((word.value for word in node.keywords if word.arg == "hint"), None)
                found[name].add(Site(words(node.args[0]), "" if hint is None else words(hint)))
    return found


def words(node: ast.expr) -> str:
    """The text an expression makes, as far as the source says."""
    match node:
        case ast.Constant(value=None):
            return ""
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(words(value) for value in values)
        case ast.FormattedValue(value=value):
            return words(value) if isinstance(value, ast.IfExp) else f"‹{_name(value)}›"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return words(left) + words(right)
        case ast.IfExp(body=body, orelse=orelse):
            return f"({words(body)} | {words(orelse)})"
        case _:
            return f"‹{_name(node)}›"


def _name(node: ast.expr) -> str:
    """A short name for a value: its own, that of what a function makes it of, or …"""
    if isinstance(node, ast.Call):
        return next(_identifiers([*node.args, node.func]), "…")
    return next(_identifiers([node]), "…")


def _identifiers(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            yield _last(node)
        elif isinstance(node, ast.Subscript):
            yield from _identifiers([node.value])
        elif isinstance(node, ast.BinOp):
            yield from _identifiers([node.left, node.right])
        elif isinstance(node, ast.Call):
            yield _name(node)


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    return node.id.strip("_") if isinstance(node, ast.Name) else ""
