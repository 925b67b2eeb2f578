"""What is drawn over and over: the line of a transfer, by a clock of our own, and a whole screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.terminals import shown

from rbee_ssh.cli.live import Screen, TransferBar
from rbee_ssh.cli.text import width

MIB = 2**20


class Paper:
    def __init__(self, columns: int = 80) -> None:
        self.now = 0.0
        self.written: list[str] = []
        self.bar = TransferBar(self.written.append, columns, lambda: self.now)

    @property
    def last(self) -> str:
        """The line that stands there, or stood there last."""
        return next(line for line in reversed(shown("".join(self.written))) if line)


def test_it_is_not_drawn_more_often_than_anybody_reads() -> None:
    paper = Paper()
    for step in range(1000):
        paper.now = step / 1000
        paper.bar.draw("m", step, 2000)
    assert 9 <= sum("m: " in text for text in paper.written) <= 11


def test_after_something_else_was_written_it_is_drawn_at_once() -> None:
    paper = Paper()
    for _ in range(2):
        paper.bar.draw("m", 1, 2)
        assert shown("".join(paper.written))[0] == "m: 50% of 2 B"
        paper.bar.clear()
        assert shown("".join(paper.written))[0] == ""


def test_clearing_what_is_not_there_writes_nothing() -> None:
    paper = Paper()
    paper.bar.clear()
    assert paper.written == []


def test_the_cursor_stays() -> None:
    paper = Paper()
    paper.bar.draw("m", 1, 2)
    paper.bar.clear()
    assert "\x1b[?25" not in "".join(paper.written)


def test_what_was_there_before_a_resumed_copy_is_not_its_speed() -> None:
    paper = Paper()
    for paper.now, mib in ((0.0, 900), (5.0, 905), (10.0, 910)):
        paper.bar.draw("m", mib * MIB, 1000 * MIB)
    assert paper.last == "m: 91% of 1000.0 MiB, 1.0 MiB/s, 1m30s left"


def test_a_second_copy_begins_anew() -> None:
    paper = Paper()
    paper.bar.draw("a", 100, 100)
    paper.now = 100
    paper.bar.draw("a", 0, 100)
    paper.now = 102.0
    paper.bar.draw("a", 100, 100)
    assert paper.last == "a: 100 B in 2.0s"


@given(st.text(max_size=100), st.integers(20, 200), st.integers(0, 10**15), st.integers(0, 10**15))
def test_it_never_fills_the_terminals_last_column(label: str, columns: int, done: int, total: int) -> None:
    # A terminal wraps such a line, and the next one would be drawn below it.
    paper = Paper(columns)
    paper.bar.draw(label, done, total)
    line, *others = shown("".join(paper.written))
    assert width(line) < columns
    assert others in ([], [""])


def test_what_a_node_put_into_a_name_does_nothing() -> None:
    paper = Paper()
    paper.bar.draw("[red]:smile: \x1b[2J\n", 1, 2)
    assert paper.last == "[red]:smile: \\x1b[2J\\n: 50% of 2 B"


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (0, None, 0.0, "0 B"),
        (5, 0, 0.0, "500% of 0 B"),
        (29, 100, 0.0, "29% of 100 B"),
        (50, 200, 0.5, "25% of 200 B"),
        (50, 200, 5.0, "25% of 200 B, 10 B/s, 15s left"),
        (2048, None, 2.0, "2.0 KiB, 1.0 KiB/s"),
    ],
)
def test_what_it_says(done: int, total: int | None, seconds: float, text: str) -> None:
    paper = Paper()
    for paper.now, bytes_done in ((0.0, 0), (seconds / 2, done // 2), (seconds, done)):
        paper.bar.draw("m", bytes_done, total)
    paper.bar.clear()
    paper.bar.draw("m", done, total)
    assert paper.last == f"m: {text}"


def test_a_long_name_gives_way_to_the_numbers() -> None:
    paper = Paper(60)
    name = "sending SmolLM2-135M-Instruct.Q4_1.gguf to 2 nodes"
    for paper.now, done in ((0.0, 0), (2.5, 25), (5.0, 50)):
        paper.bar.draw(name, done, 200)
    assert paper.last == "sending SmolLM2-135M-Instr…: 25% of 200 B, 10 B/s, 15s left"
    paper.bar.draw(name, 200, 200)
    assert paper.last.endswith("…: 200 B in 5.0s")


def screen(written: list[str], columns: int = 20, rows: int = 3) -> Screen:
    return Screen(written.append, lambda: (columns, rows), colour=False)


def test_a_screen_comes_and_leaves_nothing_behind() -> None:
    written: list[str] = []
    with screen(written) as drawn:
        drawn.draw([("three", ""), ("lines", ""), ("long", "")])
        drawn.draw([("one", ""), ("two", "bad")])
        assert shown("".join(written)) == ["one", "two", ""]
    text = "".join(written)
    assert text.startswith("\x1b[?1049h") and "\x1b[?25l" in text
    assert text.endswith("\x1b[?1049l") and "\x1b[?25h" in text


def test_it_is_left_as_it_was_whatever_happens() -> None:
    written: list[str] = []
    try:
        with screen(written):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert "".join(written).endswith("\x1b[?25h\x1b[?1049l")


def test_lines_are_cut_and_those_that_are_too_many_left_out() -> None:
    written: list[str] = []
    with screen(written, columns=5, rows=2) as drawn:
        drawn.draw([("1234567", ""), ("ab\x1b[2J", ""), ("third", "")])
        assert shown("".join(written)) == ["1234…", "ab\\x…"]


def test_what_a_screen_is_told_is_no_markup() -> None:
    written: list[str] = []
    with screen(written) as drawn:
        drawn.draw([("[red]:smile:[/]", "")])
        assert shown("".join(written))[0] == "[red]:smile:[/]"
