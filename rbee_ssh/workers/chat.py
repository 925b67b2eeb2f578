"""What is asked of an engine, and how its streamed answer reads: OpenAI's shapes, as three engines speak.

Pure. Recorded answers of each engine stand in tests/unit/workers/answers/.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rbee_ssh.errors import ApiKeyRejected, RbeeError, RequestRefused, ResponseInvalid
from rbee_ssh.ssh.http import one_line
from rbee_ssh.workers.types import Done, Event, InferRequest, Sampling, Thinking, Token

CHAT_PATH = "/v1/chat/completions"
RAW_PATH = "/v1/completions"
_END = "[DONE]"


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a streamed answer. Most carry a text or a thinking; the last ones the rest."""

    text: str = ""
    thinking: str = ""
    finish_reason: str | None = None
    tokens: int | None = None  # generated, as the engine counted them
    prompt_tokens: int | None = None
    end: bool = False  # the engine has nothing more to say


def payload(request: InferRequest, alias: str, engine: str) -> tuple[str, dict[str, Any]]:
    """The path and the JSON body that ask `engine` for this answer, streamed.

    Args:
        request: the prompt and how to sample.
        alias: the name under which the worker serves its model.
        engine: the engine's name; llama-cpp-python spells two things its own way.

    Raises:
        RequestRefused: the engine has no way to do it.
    """
    body: dict[str, Any] = {
        "model": alias,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling),
    }
    schema = request.sampling.json_schema
    if request.raw:
        body["prompt"] = request.prompt
        if schema is not None:
            if engine == "llama-cpp-python":
                raise RequestRefused(
                    "llama-cpp-python cannot hold a plain completion to a JSON schema",
                    hint="leave --raw out, or add --engine llama-server",
                )
            body["json_schema"] = schema
        if engine == "llama-cpp-python":
            # It stops a plain completion after 16 tokens unless told otherwise.
            body.setdefault("max_tokens", None)
        return RAW_PATH, body
    body["messages"] = [{"role": "user", "content": request.prompt}]
    if request.system is not None:
        body["messages"].insert(0, {"role": "system", "content": request.system})
    if schema is not None:
        body["response_format"] = (
            {"type": "json_object", "schema": schema}
            if engine == "llama-cpp-python"
            else {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        )
    return CHAT_PATH, body


def _sampling(sampling: Sampling) -> dict[str, Any]:
    values = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def read_event(data: str, name: str = "message") -> Piece:
    """What one event of the stream says.

    Args:
        data: the event's data: JSON, or OpenAI's "[DONE]".
        name: the event's name.

    Raises:
        RequestRefused: the engine reports an error of its own.
        ResponseInvalid: not JSON, or not a shape that an engine gives.
    """
    if data.strip() == _END:
        return Piece(end=True)
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("not JSON", data) from error
    if not isinstance(event, dict):
        raise _invalid("not a JSON object", data)
    if name == "error" or event.get("error"):
        raise RequestRefused(
            f"the engine refused the request: {_complaint(event)}", details={"received": one_line(data)}
        )
    choices = event.get("choices")
    if not isinstance(choices, list):
        raise _invalid("no choices", data)
    tokens, prompt_tokens = _usage(event.get("usage"))
    if not choices:
        return Piece(tokens=tokens, prompt_tokens=prompt_tokens)
    choice = choices[0]
    if not isinstance(choice, dict):
        raise _invalid("a choice is not an object", data)
    # Chat chunks have a delta; plain completions have the text in the choice itself.
    delta = choice.get("delta")
    if delta is None:
        delta = choice
    if not isinstance(delta, dict):
        raise _invalid("a delta is not an object", data)
    texts = [
        _first(delta, ("content", "text")),
        _first(delta, ("reasoning_content", "reasoning")),
        choice.get("finish_reason") or "",
    ]
    if not all(isinstance(text, str) for text in texts):
        raise _invalid("a text is not a string", data)
    text, thinking, finish_reason = texts
    return Piece(text, thinking, finish_reason or None, tokens, prompt_tokens)


def refusal(status: int, body: bytes) -> RbeeError:
    """The error that an HTTP answer other than 200 stands for, with the engine's own words on one line."""
    text = body.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    complaint = _complaint(answer) if isinstance(answer, dict) else one_line(text) or "no reason given"
    details = {"status": status, "received": one_line(text)}
    if status in (401, 403):
        return ApiKeyRejected(f"the worker did not accept its API key: {complaint}", details=details)
    if isinstance(answer, dict):
        return RequestRefused(f"the engine refused the request: {complaint}", details=details)
    return ResponseInvalid(f"the worker answered with HTTP status {status}: {complaint}", details=details)


def _complaint(answer: dict[str, Any]) -> str:
    """The engine's message: {"error":{"message"}}, {"error":"…"}, {"message"}, or FastAPI's {"detail"}."""
    error = answer.get("error") or answer
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return one_line(error if isinstance(error, str) else json.dumps(error, ensure_ascii=False))


def _usage(usage: Any) -> tuple[int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None
    return _count(usage.get("completion_tokens")), _count(usage.get("prompt_tokens"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first of these that says something; engines send null or nothing where there is no text."""
    return next((values[name] for name in names if values.get(name)), "")


def _invalid(why: str, data: str) -> ResponseInvalid:
    return ResponseInvalid(
        f"the worker sent an event that no llama.cpp server sends ({why}): {one_line(data)}",
        details={"received": one_line(data)},
    )


# Pieces closer together than this came in one read: their distance says nothing about the engine's speed.
_SHORTEST_SPAN = 0.001


class ResponseStats:
    """The count of one answer, from the moment the request is about to be sent.

    Args:
        clock: seconds on a clock that only goes forward, such as time.monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._first: float | None = None
        self._last = self._began
        self._texts = 0
        self._thoughts = 0
        self._tokens: int | None = None
        self._prompt_tokens: int | None = None
        self._finish_reason: str | None = None
        self._ended = False

    @property
    def received(self) -> int:
        """Pieces of text and thinking so far; an engine sends one token in each, rarely more."""
        return self._texts + self._thoughts

    @property
    def finished(self) -> bool:
        """Whether the engine said that the answer is complete. If not, the stream broke off."""
        return self._finish_reason is not None or self._ended

    def take(self, piece: Piece) -> list[Event]:
        """Count a piece; the events it is worth, in order: none, one, or a thinking and a token."""
        events: list[Event] = []
        if piece.thinking:
            events.append(Thinking(piece.thinking, self._thoughts))
            self._thoughts += 1
        if piece.text:
            events.append(Token(piece.text, self._texts))
            self._texts += 1
        if events:
            self._last = self._clock()
            if self._first is None:
                self._first = self._last
        if piece.finish_reason is not None:
            self._finish_reason = piece.finish_reason
        if piece.tokens is not None:
            self._tokens = piece.tokens
        if piece.prompt_tokens is not None:
            self._prompt_tokens = piece.prompt_tokens
        self._ended = self._ended or piece.end
        return events

    def done(self) -> Done:
        """The last event, now.

        `tokens_per_second` is the speed of generation: without the wait for the first token, where at least
        two tokens came apart from each other; else over the whole time.
        """
        seconds = self._clock() - self._began
        tokens = self.received if self._tokens is None else self._tokens
        first = self._began + seconds if self._first is None else self._first
        span = self._last - first
        if tokens > 1 and span >= _SHORTEST_SPAN:
            speed = (tokens - 1) / span
        else:
            speed = tokens / seconds if seconds > 0 else 0.0
        return Done(
            finish_reason=self._finish_reason or "stop",
            tokens=tokens,
            prompt_tokens=self._prompt_tokens,
            seconds=seconds,
            tokens_per_second=speed,
            time_to_first_token_ms=1000 * (first - self._began),
        )
