"""What is asked of an engine, and how its streamed answer reads: OpenAI's shapes, as three engines speak.

Pure. Recorded answers of each engine stand in tests/unit/workers/answers/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rbee_ssh.errors import ApiKeyRejected, RbeeError, RequestRefused, ResponseInvalid
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
    said = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


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
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("not JSON", data) from error
    if not isinstance(said, dict):
        raise _invalid("not a JSON object", data)
    if name == "error" or said.get("error"):
        raise RequestRefused(
            f"the engine refused the request: {_complaint(said)}", details={"received": one_line(data)}
        )
    choices = said.get("choices")
    if not isinstance(choices, list):
        raise _invalid("no choices", data)
    tokens, prompt_tokens = _usage(said.get("usage"))
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
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    complaint = _complaint(said) if isinstance(said, dict) else one_line(text) or "no reason given"
    details = {"status": status, "received": one_line(text)}
    if status in (401, 403):
        return ApiKeyRejected(f"the worker did not accept its API key: {complaint}", details=details)
    if isinstance(said, dict):
        return RequestRefused(f"the engine refused the request: {complaint}", details=details)
    return ResponseInvalid(f"the worker answered with HTTP status {status}: {complaint}", details=details)


def _complaint(said: dict[str, Any]) -> str:
    """The engine's message: {"error":{"message"}}, {"error":"…"}, {"message"}, or FastAPI's {"detail"}."""
    error = said.get("error") or said
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


MAX_EVENT_BYTES = 1 << 20  # of one line, and of the data of one event

_LINE_END = re.compile(rb"\r\n|\n|\r")
_IGNORED = frozenset({b"id", b"retry"})  # of use only to a client that reconnects
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `name` is "message" unless the server named it."""

    data: str
    name: str = "message"


def one_line(text: str) -> str:
    """`text` with its line breaks and runs of blanks folded into one blank, cut to about 200 characters."""
    folded = " ".join(text[: 8 * _SHOWN_CHARACTERS].split())
    return folded if len(folded) <= _SHOWN_CHARACTERS else folded[: _SHOWN_CHARACTERS - 1] + "…"


class EventParser:
    """Turns chunks of a response body into events as soon as each is whole.

    Lines end with LF, CRLF or CR, as the specification has it. Bytes that are not UTF-8 become U+FFFD: one
    broken character is no reason to lose an answer. A field the specification does not know means that the
    other end is no event stream, and is refused; llama.cpp's `error:` lines of some versions are the
    exception, and arrive as an event named "error".
    """

    def __init__(self) -> None:
        self._pending = bytearray()  # the start of a line whose end has not come yet
        self._searched = 0  # no line end before this offset of _pending
        self._after_cr = False  # a LF that comes next belongs to the CR before it
        self._first_line = True
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that this chunk completes.

        Raises:
            ResponseInvalid: a line or an event is longer than MAX_EVENT_BYTES, or this is no event stream.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        self._pending += chunk
        events: list[ServerEvent] = []
        start = 0
        for end in _LINE_END.finditer(self._pending, self._searched):
            self._line(bytes(self._pending[start : end.start()]), events)
            start = end.end()
        if start and start == len(self._pending):
            self._after_cr = self._pending.endswith(b"\r")
        del self._pending[:start]
        self._searched = len(self._pending)
        if self._searched > MAX_EVENT_BYTES:
            raise self._too_long(bytes(self._pending[:_SHOWN_CHARACTERS]))
        return events

    def close(self) -> list[ServerEvent]:
        """What the end of the stream completes: an event that lacks its blank line, or its last line end.

        Such an event may also have been cut in the middle by a server that died: whoever reads it must reckon
        with half a JSON text.

        Raises:
            ResponseInvalid: as `feed`.
        """
        events: list[ServerEvent] = []
        if self._pending:
            self._line(bytes(self._pending), events)
            self._pending.clear()
            self._searched = 0
        self._dispatch(events)
        return events

    def _line(self, line: bytes, events: list[ServerEvent]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_EVENT_BYTES:
            raise self._too_long(line)
        if not line:
            self._dispatch(events)
            return
        if line.startswith(b":"):
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field in (b"data", b"error"):
            if field == b"error":
                self._name = "error"
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > MAX_EVENT_BYTES:
                raise self._too_long(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field not in _IGNORED:
            raise ResponseInvalid(
                f"the worker answered with something that is no event stream: {_shown(line)}",
                details={"received": _shown(line)},
            )

    def _dispatch(self, events: list[ServerEvent]) -> None:
        if self._data:
            data = b"\n".join(self._data).decode("utf-8", "replace")
            events.append(ServerEvent(data, self._name or "message"))
        self._data.clear()
        self._size = 0
        self._name = ""

    @staticmethod
    def _too_long(start: bytes) -> ResponseInvalid:
        return ResponseInvalid(
            f"the worker sent a single event of more than {MAX_EVENT_BYTES} bytes, starting: {_shown(start)}",
            details={"limit_bytes": MAX_EVENT_BYTES},
        )


def _shown(raw: bytes) -> str:
    return one_line(raw[: 8 * _SHOWN_CHARACTERS].decode("utf-8", "replace"))


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
