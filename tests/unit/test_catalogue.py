"""docs/failures.md is what the code says, and every error has a test that provokes it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from catalogue import tests as provoking
from catalogue.page import REAL, TARGET, page, provoked
from catalogue.sites import words


def test_the_page_is_current() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run scripts/failures"


def test_every_error_is_provoked_by_a_test() -> None:
    assert [code for code, tests in provoked().items() if not tests] == []


def test_an_error_counts_as_provoked_where_a_test_of_real_machines_names_it(tmp_path: Path) -> None:
    for folder, name in (("tests/nodes", "NEW_ONE"), ("tests/unit", "NEW_TWO")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "test_new.py").write_text(f'def test_it(): assert code() == "{name}"\n')
    names = {"NEW_ONE": {"NEW_ONE", "NewOne"}, "NEW_TWO": {"NEW_TWO", "NewTwo"}}
    assert provoking.tests(tmp_path, REAL, names) == {
        "NEW_ONE": ["tests/nodes/test_new.py::test_it"],
        "NEW_TWO": [],
    }


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('"plain"', "plain"),
        ("None", ""),
        ('f"node {node.name!r}: {reason(error)}"', "node ‹name›: ‹error›"),
        ('"a" + b', "a‹b›"),
        ('"one" if x else f"many {n}"', "(one | many ‹n›)"),
        ('f"{1 + 2}"', "‹…›"),
        ('f"{first[0]} {len(x) - y}"', "‹first› ‹x›"),
        ("lambda: 1", "‹…›"),
    ],
)
def test_words(source: str, text: str) -> None:
    assert words(ast.parse(source, mode="eval").body) == text
