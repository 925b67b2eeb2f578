"""Text for a terminal: nothing in it steers the terminal, and tables fit."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.text import (
    Column,
    clean,
    clean_line,
    fit,
    in_inventory,
    size,
    span,
    strip_controls,
    table,
    unreachable,
    width,
)
from rbee_ssh.errors import NodeUnreachable

hostile = st.text(
    st.sampled_from("ab ä漢é\x1b[]31m;\x07\r\n\t\x00\x7f\x9b\u202e\u2066\u200f\ud800😀\\"), max_size=40
)


def steers(text: str, allowed: str = "") -> bool:
    return any(unicodedata.category(c) in ("Cc", "Cs") and c not in allowed for c in text)


def test_an_escape_sequence_is_shown_and_not_obeyed() -> None:
    assert clean("gpu\x1b[2J\x07") == "gpu\\x1b[2J\\x07"


def test_text_that_runs_backwards_is_shown_as_it_was_sent() -> None:
    assert clean("txt.\u202egpj") == "txt.\\u202egpj"


def test_line_feeds_and_tabs_are_kept_in_texts_and_shown_in_names() -> None:
    assert clean("a\n\tb") == "a\n\tb"
    assert clean_line("a\n\tb\u2028c") == "a\\n\\tb\\u2028c"


@given(hostile | st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    assert not steers(clean(text), "\n\t")
    assert not steers(clean_line(text))
    assert not any(unicodedata.category(c) == "Cc" for c in strip_controls(text) if c not in "\n\t")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u061c\u200e\u200f\u2028"
                             "\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")))  # fmt: skip
def test_harmless_text_is_left_alone(text: str) -> None:
    assert clean(text) == clean_line(text) == strip_controls(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link", "link"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b(Bx\x1b=y", "xy"),
        ("\x9b31mx", "31mx"),
        ("over\rwritten", "overwritten"),
        ("\u200fعربي", "\u200fعربي"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b", ""),
    ],
)
def test_a_models_text_loses_its_escape_sequences(text: str, shown: str) -> None:
    assert strip_controls(text) == shown


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("漢字", 4), ("e\u0301", 1), ("", 0), ("😀", 2)])
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text(max_size=30), st.integers(1, 20), st.sampled_from(["start", "end"]))
def test_a_cut_text_fits_and_keeps_the_end_it_should(text: str, columns: int, keep: str) -> None:
    shown = fit(text, columns, keep=keep)
    assert width(shown) <= max(columns, 0) or shown == text
    if shown != text:
        assert shown.endswith("…") if keep == "start" else shown.startswith("…")
        rest = shown.removesuffix("…") if keep == "start" else shown.removeprefix("…")
        assert text.startswith(rest) if keep == "start" else text.endswith(rest)


COLUMNS = (Column("ID"), Column("MODEL", keep="end"), Column("IDLE", right=True))


def test_columns_stand_below_their_titles() -> None:
    assert table(COLUMNS, [["w1", "/models/tiny.gguf", "5s"], ["worker-2", "漢", "2h05m"]]) == [
        "ID        MODEL               IDLE",
        "w1        /models/tiny.gguf     5s",
        "worker-2  漢                 2h05m",
    ]


def test_in_a_pipe_nothing_is_cut() -> None:
    assert "x" * 500 in table(COLUMNS, [["w1", "x" * 500, ""]])[1]


def test_on_a_terminal_the_column_that_may_gives_way_and_keeps_its_telling_end() -> None:
    lines = table(COLUMNS, [["w1", "/a/very/long/path/to/tiny.gguf", "5s"]], limit=30)
    assert all(width(line) <= 30 for line in lines)
    assert lines[1].startswith("w1  …") and "tiny.gguf  " in lines[1]


def test_columns_that_can_be_spared_go_when_cutting_is_not_enough() -> None:
    columns = (Column("A"), Column("B", spare=1), Column("C", spare=2), Column("D", keep="start"))
    row = ["a" * 10, "b" * 10, "c" * 10, "d" * 30]
    titles = [table(columns, [row], limit)[0].split() for limit in (66, 50, 38, 26, 5)]
    assert titles == [["A", "B", "C", "D"], ["A", "B", "C", "D"], ["A", "B", "D"], ["A", "D"], ["A", "D"]]


@given(
    st.lists(st.lists(hostile, min_size=3, max_size=3), max_size=4),
    st.none() | st.integers(10, 200),
)
def test_a_table_is_one_line_a_row_whatever_its_cells_hold(rows: list[list[str]], limit: int | None) -> None:
    lines = table(COLUMNS, rows, limit)
    assert len(lines) == 1 + len(rows)
    assert not any(steers(line) for line in lines)
    # Columns that are never cut, two gaps, and the least of the third.
    fixed = max([2, *(width(clean_line(row[0])) for row in rows)])
    fixed += max([4, *(width(clean_line(row[2])) for row in rows)])
    if limit is not None and limit >= fixed + 4 + 8:
        assert all(width(line) <= limit for line in lines)


def test_a_warning_names_the_node_once() -> None:
    assert unreachable("gpu1", NodeUnreachable("refused")) == "gpu1: refused"
    assert (
        unreachable("gpu1", NodeUnreachable("node 'gpu1' is off", hint="h")) == "node 'gpu1' is off\nhint: h"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (98 * 2**20, "98.0 MiB"), (3 * 2**40, "3.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (7.0, "7.0s"),
        (0.31, "0.3s"),
        (42, "42s"),
        (59.6, "1m00s"),
        (310, "5m10s"),
        (7500, "2h05m"),
        (273600, "3d04h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("rbee nodes list", "rbee --inventory 'a b.toml' nodes list"),
        (
            "rbee models list --node n   # then `rbee models rm` or `prune`",
            "rbee --inventory 'a b.toml' models list --node n   "
            "# then `rbee --inventory 'a b.toml' models rm` or `prune`",
        ),
        ("rbee --verbose nodes status n", "rbee --inventory 'a b.toml' --verbose nodes status n"),
        ("rbee --inventory x nodes list", "rbee --inventory x nodes list"),
        ("a\nhint: rbee nodes list", "a\nhint: rbee --inventory 'a b.toml' nodes list"),
        ("rbee infer --help", "rbee infer --help"),
        ("ls ~/.local/state/rbee workers", "ls ~/.local/state/rbee workers"),
        ("set models_dir in the inventory", "set models_dir in the inventory"),
    ],
)
def test_a_command_is_for_the_inventory_that_was_given(hint: str, told: str) -> None:
    assert in_inventory(hint, "a b.toml") == told
