"""The line at the bottom of the terminal, by a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.progress import Bar, bar_text
from rbee_ssh.cli.text import width


class Paper:
    def __init__(self, columns: int = 80) -> None:
        self.now = 0.0
        self.written: list[str] = []
        self.bar = Bar(self.written.append, columns, lambda: self.now)


def test_it_is_not_drawn_more_often_than_anybody_reads() -> None:
    paper = Paper()
    for step in range(1000):
        paper.now = step / 1000
        paper.bar.draw("m", step, 2000)
    assert 9 <= len(paper.written) <= 11


def test_after_something_else_was_written_it_is_drawn_at_once() -> None:
    paper = Paper()
    paper.bar.draw("m", 1, 2)
    paper.bar.clear()
    paper.bar.draw("m", 1, 2)
    assert len(paper.written) == 3


def test_clearing_what_is_not_there_writes_nothing() -> None:
    paper = Paper()
    paper.bar.clear()
    paper.bar.show("")
    assert paper.written == []


def test_what_was_there_before_a_resumed_copy_is_not_its_speed() -> None:
    paper = Paper()
    paper.bar.draw("m", 900 * 2**20, 1000 * 2**20)
    paper.now = 10
    paper.bar.draw("m", 910 * 2**20, 1000 * 2**20)
    assert "91% of 1000.0 MiB, 1.0 MiB/s, 1m30s left" in paper.written[-1]


def test_a_second_copy_begins_anew() -> None:
    paper = Paper()
    paper.bar.draw("a", 100, 100)
    paper.now = 100
    paper.bar.draw("a", 0, 100)
    paper.now = 102.0
    paper.bar.draw("a", 100, 100)
    assert paper.written[-1] == "a: 100 B in 2.0s\n"


@given(st.text(max_size=100), st.integers(20, 200), st.integers(0, 10**15), st.integers(0, 10**15))
def test_it_never_fills_the_terminals_last_column(label: str, columns: int, done: int, total: int) -> None:
    # A terminal wraps such a line, and the next one would be drawn below it.
    paper = Paper(columns)
    paper.bar.draw(label, done, total)
    line = paper.written[-1].strip("\r\n").removesuffix("\x1b[K")
    assert width(line) < columns


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, None, 0, 0.0), "0 B"),
        ((5, 0, 5, 0.0), "500% of 0 B"),
        ((50, 200, 50, 0.5), "25% of 200 B"),
        ((50, 200, 50, 5.0), "25% of 200 B, 10 B/s, 15s left"),
        ((2048, None, 2048, 2.0), "2.0 KiB, 1.0 KiB/s"),
    ],
)
def test_what_it_says(arguments: tuple[int, int | None, int, float], text: str) -> None:
    assert bar_text(*arguments) == text


def test_a_long_name_gives_way_to_the_numbers() -> None:
    paper = Paper(60)
    name = "sending SmolLM2-135M-Instruct.Q4_1.gguf to 2 nodes"
    paper.bar.draw(name, 0, 200)
    paper.now = 5
    paper.bar.draw(name, 50, 200)
    assert paper.written[-1] == "\rsending SmolLM2-135M-Instr…: 25% of 200 B, 10 B/s, 15s left\x1b[K"
    paper.bar.draw(name, 200, 200)
    assert paper.written[-1].endswith("…: 200 B in 5.0s\n")
