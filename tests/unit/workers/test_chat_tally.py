"""Counting and timing an answer by a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.workers.chat import Piece, ResponseStats
from rbee_ssh.workers.types import Done, Event, Thinking, Token


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(*steps: tuple[float, Piece]) -> tuple[list[Event], Done, ResponseStats]:
    clock = Clock()
    tally = ResponseStats(clock)
    events: list[Event] = []
    for wait, piece in steps:
        clock.now += wait
        events += tally.take(piece)
    return events, tally.done(), tally


def test_tokens_are_numbered_and_timed() -> None:
    events, done, tally = told(
        (0.5, Piece(text="a")),
        (0.1, Piece(text="b")),
        (0.1, Piece(text="c")),
        (0.0, Piece(finish_reason="length")),
        (0.3, Piece(tokens=4, prompt_tokens=30)),
        (0.0, Piece(end=True)),
    )
    assert events == [Token("a", 0), Token("b", 1), Token("c", 2)]
    assert done.finish_reason == "length"
    assert (done.tokens, done.prompt_tokens) == (4, 30)
    assert done.seconds == pytest.approx(1.0)
    assert done.time_to_first_token_ms == pytest.approx(500)
    assert done.tokens_per_second == pytest.approx(3 / 0.2)
    assert tally.finished


def test_without_the_engines_count_the_pieces_are_counted() -> None:
    _, done, tally = told((0.5, Piece(thinking="a")), (0.5, Piece(text="b")))
    assert done.tokens == 2
    assert done.prompt_tokens is None
    assert tally.received == 2
    assert not tally.finished


def test_thinking_has_numbers_of_its_own_and_is_the_first_sign_of_life() -> None:
    events, done, _ = told((0.2, Piece(thinking="x")), (1.0, Piece(text="y")), (1.0, Piece(thinking="z")))
    assert events == [Thinking("x", 0), Token("y", 0), Thinking("z", 1)]
    assert done.time_to_first_token_ms == pytest.approx(200)


def test_tokens_that_came_in_one_read_do_not_claim_an_absurd_speed() -> None:
    _, done, _ = told((2.0, Piece(text="a")), (0.00001, Piece(text="b")), (0.0, Piece(finish_reason="stop")))
    assert done.tokens_per_second == pytest.approx(1.0, rel=0.01)


def test_an_answer_without_a_token() -> None:
    events, done, tally = told((0.5, Piece(finish_reason="stop")))
    assert events == []
    assert (done.tokens, done.tokens_per_second) == (0, 0.0)
    assert done.time_to_first_token_ms == pytest.approx(500)
    assert tally.finished


@pytest.mark.parametrize("piece", [Piece(finish_reason="stop"), Piece(end=True)])
def test_either_a_reason_or_the_end_mark_finishes(piece: Piece) -> None:
    assert told((0.0, piece))[2].finished


pieces = st.builds(
    Piece,
    text=st.text(max_size=2),
    thinking=st.text(max_size=2),
    finish_reason=st.none() | st.just("stop"),
    tokens=st.none() | st.integers(0, 10**9),
)


@given(st.lists(st.tuples(st.floats(0, 1e6), pieces), max_size=20))
def test_no_text_is_lost_and_no_number_is_negative(steps: list[tuple[float, Piece]]) -> None:
    events, done, _ = told(*steps)
    for kind, expected in (
        (Token, [p.text for _, p in steps if p.text]),
        (Thinking, [p.thinking for _, p in steps if p.thinking]),
    ):
        mine = [event for event in events if isinstance(event, kind)]
        assert [event.text for event in mine] == expected
        assert [event.index for event in mine] == list(range(len(mine)))
    assert min(done.tokens, done.seconds, done.tokens_per_second, done.time_to_first_token_ms) >= 0
    assert done.time_to_first_token_ms <= 1000 * done.seconds + 1e-6
