from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.wording import has_control, listed, nearest, quoted


@pytest.mark.parametrize("char", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x9b", "\u2028", "\udc80"])
def test_control_characters(char: str) -> None:
    assert has_control(f"a{char}b")
    assert char not in quoted(f"a{char}b")


@pytest.mark.parametrize("text", ["", "plain", "with space", "größe", "模型", "🐝", "$(x); '\""])
def test_ordinary_text_has_none(text: str) -> None:
    assert not has_control(text)
    assert json.loads(quoted(text)) == text


@given(st.text())
def test_quoted_is_one_short_printable_line(text: str) -> None:
    shown = quoted(text, 20)
    assert shown.isprintable()
    assert len(json.loads(shown)) <= 20


def test_quoted_marks_what_it_cut() -> None:
    assert quoted("x" * 100, 10) == '"' + "x" * 9 + '…"'


def test_listed_counts_what_it_leaves_out() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed((str(number) for number in range(25)), 2) == "0, 1 and 23 more"
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("word", "near"),
    [("prot", "port"), ("Identity-File", "identity_file"), ("hots", "host"), ("zzz", None), ("", None)],
)
def test_nearest(word: str, near: str | None) -> None:
    assert nearest(word, ["host", "port", "identity_file"]) == near


def test_nearest_gives_the_known_word_as_it_is_written() -> None:
    assert nearest("gpu-BOX", ["GPU_Box", "other"]) == "GPU_Box"
