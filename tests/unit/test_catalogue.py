"""docs/failures.md is what the code says, and every error has a test that provokes it."""

from __future__ import annotations

import ast

import pytest
from catalogue.page import TARGET, page, provoked
from catalogue.sites import words


def test_the_page_is_current() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run scripts/failures"


def test_every_error_is_provoked_by_a_test() -> None:
    assert [code for code, tests in provoked().items() if not tests] == []


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
