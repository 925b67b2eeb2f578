"""Which test provokes which error: the ones that name its code or its class."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def tests(root: Path, folders: Iterable[str], names: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """For each code the tests in these folders, as FILE::TEST, that name it in their body or parameters.

    Args:
        names: what a code can be called in a test.
    """
    found: dict[str, list[str]] = {code: [] for code in names}
    for folder in folders:
        for file in sorted((root / folder).rglob("test_*.py")):
            for test in _tests(ast.parse(file.read_text(encoding="utf-8"))):
                said = _words(test)
                for code, called in names.items():
                    if said & called:
                        found[code].append(f"{file.relative_to(root).as_posix()}::{test.name}")
    return found


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def _words(test: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    words = set()
    for node in ast.walk(test):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
        elif isinstance(node, ast.Name):
            words.add(node.id)
    return words
