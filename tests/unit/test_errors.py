"""The tree of errors: codes are stable and unique, and the picture of it is true."""

from __future__ import annotations

import inspect
import re

from rbee_ssh import errors
from rbee_ssh.errors import RbeeError, UsageFault


def leaves() -> list[type[RbeeError]]:
    found = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RbeeError)]
    return [c for c in found if "code" in vars(c) and c is not RbeeError]


def test_every_code_is_spelled_after_its_class_and_stands_once() -> None:
    """tests/unit/test_docs.py holds them against the table of docs/architecture.md."""
    codes = [error.code for error in leaves()]
    assert len(codes) == len(set(codes))
    assert {"API_KEY_REJECTED", "UNEXPECTED"} <= set(codes)
    assert "code" not in vars(UsageFault)


def test_usage_faults_exit_2_and_the_others_1_but_for_a_cancel() -> None:
    for error in leaves():
        expected = 2 if issubclass(error, UsageFault) else 130 if error.code == "CANCELLED" else 1
        assert error.exit_status == expected, error.code


def test_the_picture_in_the_docstring_shows_every_class() -> None:
    drawn = set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)*\b", (errors.__doc__ or "").split("`code`")[0]))
    assert {error.__name__ for error in leaves()} <= drawn
