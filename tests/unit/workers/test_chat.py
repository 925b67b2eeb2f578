"""What is asked of an engine and how its answers read, against answers recorded from the three engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import ApiKeyRejected, RequestRefused, ResponseInvalid
from rbee_ssh.ssh.http import EventParser
from rbee_ssh.workers.chat import Piece, payload, read_event, refusal
from rbee_ssh.workers.types import InferRequest, Sampling, WorkerRequest

ANSWERS = Path(__file__).parent / "answers"
ENGINES = ("llama-server", "xllamacpp", "llama-cpp-python")
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}}


def recorded(engine: str, kind: str) -> list[Piece]:
    parser = EventParser()
    events = parser.feed((ANSWERS / f"{engine}.{kind}.sse").read_bytes()) + parser.close()
    return [read_event(event.data, event.name) for event in events]


def body(engine: str = "llama-server", **wanted: Any) -> dict[str, Any]:
    return payload(InferRequest(WorkerRequest("m"), "Hi", **wanted), "tiny", engine)[1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("chat", "I'm glad you're", "length"),
        ("raw", " the scene, a", "length"),
        ("stop", "I'm glad you're here", "stop"),
    ],
)
def test_recorded_answers(engine: str, kind: str, text: str, reason: str) -> None:
    pieces = recorded(engine, kind)
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [reason]
    assert pieces[-1].end
    assert not any(piece.end for piece in pieces[:-1])


@pytest.mark.parametrize(
    ("engine", "usage"), [("llama-server", (5, 32)), ("xllamacpp", (5, 32)), ("llama-cpp-python", None)]
)
def test_usage_where_the_engine_counts(engine: str, usage: tuple[int, int] | None) -> None:
    counts = [(p.tokens, p.prompt_tokens) for p in recorded(engine, "chat") if p.tokens is not None]
    assert counts == ([usage] if usage else [])


def test_thinking_is_apart_from_the_answer() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm", "content": None}}]}
    assert read_event(json.dumps(chunk)) == Piece(thinking="hm")


def test_think_tags_in_the_text_stay_as_they_are() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "<think>hm</think>"}}]}
    assert read_event(json.dumps(chunk)) == Piece(text="<think>hm</think>")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ('{"error":{"code":400,"message":"too\\nlong","type":"exceed_context_size_error"}}', "message"),
        ('{"error":"too long"}', "message"),
        ('{"code":500,"message":"too long"}', "error"),
        ('{"detail":"too long"}', "error"),
    ],
)
def test_an_error_in_the_stream_is_the_engines_refusal_in_its_own_words(data: str, name: str) -> None:
    with pytest.raises(RequestRefused, match="too long"):
        read_event(data, name)


def test_a_long_complaint_is_cut() -> None:
    with pytest.raises(RequestRefused) as caught:
        read_event(json.dumps({"error": {"message": "x" * 10_000}}))
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "data",
    [
        "",
        "nonsense",
        "{",
        "[1]",
        '"text"',
        "null",
        "{}",
        '{"choices":null}',
        '{"choices":[1]}',
        '{"choices":[{"delta":[]}]}',
        '{"choices":[{"delta":{"content":5}}]}',
        '{"choices":[{"delta":{"content":{"a":1}}}]}',
        '{"choices":[{"delta":{},"finish_reason":7}]}',
        "[" * 100_000,
        "9" * 10_000,
    ],
)
def test_a_shape_no_engine_gives(data: str) -> None:
    with pytest.raises(ResponseInvalid):
        read_event(data)


@pytest.mark.parametrize(
    "usage", [None, 1, [], {}, {"completion_tokens": "9"}, {"completion_tokens": -1, "prompt_tokens": True}]
)
def test_a_usage_that_counts_nothing_is_no_usage(usage: object) -> None:
    assert read_event(json.dumps({"choices": [], "usage": usage})) == Piece()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "text", "finish_reason", "usage", "error", "message"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values | st.fixed_dictionaries({"choices": st.lists(json_values, max_size=2)}))
def test_any_json_is_a_piece_or_a_known_error(value: object) -> None:
    try:
        piece = read_event(json.dumps(value))
    except (RequestRefused, ResponseInvalid) as error:
        assert len(error.message.splitlines()) == 1
    else:
        assert isinstance(piece.text, str)
        assert piece.finish_reason is None or isinstance(piece.finish_reason, str)


def test_a_chat_is_asked_with_the_models_template() -> None:
    request = InferRequest(
        WorkerRequest("m"),
        "Hi",
        system="Be brief",
        sampling=Sampling(
            max_tokens=20, temperature=0.0, top_p=0.9, top_k=40, min_p=0.05, seed=0, stop=("a", "b")
        ),
    )
    path, asked = payload(request, "tiny", "llama-server")
    assert path == "/v1/chat/completions"
    assert asked == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 20,
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "seed": 0,
        "stop": ["a", "b"],
    }


def test_what_was_not_said_is_left_to_the_engine() -> None:
    assert set(body()) == {"model", "messages", "stream", "stream_options"}


def test_raw_goes_to_plain_completion_without_a_template() -> None:
    path, asked = payload(InferRequest(WorkerRequest("m"), "Hi", raw=True), "tiny", "xllamacpp")
    assert path == "/v1/completions"
    assert asked["prompt"] == "Hi"
    assert "messages" not in asked


def test_llama_cpp_python_is_told_not_to_stop_a_plain_completion_after_16_tokens() -> None:
    assert body("llama-cpp-python", raw=True)["max_tokens"] is None
    assert body("llama-cpp-python", raw=True, sampling=Sampling(max_tokens=3))["max_tokens"] == 3


def test_each_engine_gets_the_schema_in_its_own_spelling() -> None:
    sampling = Sampling(json_schema=SCHEMA)
    assert body("llama-server", sampling=sampling)["response_format"]["json_schema"]["schema"] == SCHEMA
    assert body("llama-cpp-python", sampling=sampling)["response_format"] == {
        "type": "json_object",
        "schema": SCHEMA,
    }
    assert body("xllamacpp", raw=True, sampling=sampling)["json_schema"] == SCHEMA
    with pytest.raises(RequestRefused, match="plain completion"):
        body("llama-cpp-python", raw=True, sampling=sampling)


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (
            400,
            b'{"error":{"code":400,"message":"request (3031 tokens) exceeds"}}',
            RequestRefused,
            "3031 tokens",
        ),
        (
            401,
            b'{"error":{"message":"Invalid API Key","type":"authentication_error"}}',
            ApiKeyRejected,
            "Invalid",
        ),
        (401, b'{"detail":"Invalid API key"}', ApiKeyRejected, "Invalid API key"),
        (422, b'{"detail":[{"loc":["body","n"],"msg":"a number"}]}', RequestRefused, "a number"),
        (500, b"Internal Server Error", ResponseInvalid, "Internal Server Error"),
        (502, b"", ResponseInvalid, "502: no reason given"),
        (500, b"\xff\xfe\n\n<html>", ResponseInvalid, "<html>"),
    ],
)
def test_an_http_status_is_told_in_the_engines_words(
    status: int, answer: bytes, kind: type[Exception], words: str
) -> None:
    error = refusal(status, answer)
    assert type(error) is kind
    assert words in error.message
    assert error.details["status"] == status
