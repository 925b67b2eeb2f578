"""Exit statuses in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.engines.exit_status import in_words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (126, "cannot be executed"),
        (127, "shared library"),
        (132, "CPU features the node lacks"),
        (134, "SIGABRT"),
        (137, "OOM killer"),
        (139, "SIGSEGV"),
        (143, "SIGTERM"),
    ],
)
def test_the_ones_that_people_meet(status: int, words: str) -> None:
    assert in_words(status).startswith(f"exit status {status}, ")
    assert words in in_words(status)


def test_python_counts_signals_below_zero() -> None:
    assert in_words(-9) == in_words(137)


def test_others_keep_their_number() -> None:
    assert in_words(64) == "exit status 64"
    assert in_words(138) == "exit status 138, ended by signal 10"


@given(st.integers(min_value=-64, max_value=255))
def test_every_status_has_words(status: int) -> None:
    assert in_words(status).startswith("exit status ")
