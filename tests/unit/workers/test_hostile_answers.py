"""An answer is a stranger's: whatever it holds is an event, or an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import RbeeError
from rbee_ssh.ssh.http import EventParser
from rbee_ssh.workers import chat
from rbee_ssh.workers.chat import ResponseStats

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "text", "usage", "error", "message", "finish_reason"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def tallied(*events: str) -> None:
    """As ask.py does it, to the end."""
    clock = iter(number / 10 for number in range(10_000))
    tally = ResponseStats(lambda: next(clock))
    for event in events:
        tally.take(chat.read_event(event))
    tally.done()


@given(st.lists(JSON, max_size=4))
def test_any_json(values: list[Any]) -> None:
    try:
        tallied(*(json.dumps(value) for value in values))
    except RbeeError as error:
        json.dumps(error.as_json())


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 400, "-1", "NaN", "true", '"many"', "1.5", "null"])
def test_counts_that_are_none(number: str) -> None:
    usage = f'{{"choices":[],"usage":{{"completion_tokens":{number},"prompt_tokens":{number}}}}}'
    text = '{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}'
    tallied(text, text, usage)


@pytest.mark.parametrize("data", ["[" * 100_000, "9" * 5000, '{"a":' * 50_000, '"\\ud800"', "\0", ""])
def test_json_that_python_does_not_like(data: str) -> None:
    with pytest.raises(RbeeError):
        chat.read_event(data)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes(chunks: list[bytes]) -> None:
    parser = EventParser()
    try:
        for chunk in chunks:
            for event in parser.feed(chunk):
                chat.read_event(event.data, event.name)
        parser.close()
    except RbeeError:
        pass


@given(st.integers(400, 599), st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_refusal(status: int, body: bytes) -> None:
    error = chat.refusal(status, body)
    assert isinstance(error, RbeeError)
    assert "\n" not in error.message
    json.dumps(error.as_json())
