"""Counting and timing one answer: pieces in, events out. Pure but for the clock it is given."""

from __future__ import annotations

from collections.abc import Callable

from rbee_ssh.workers.chat import Piece
from rbee_ssh.workers.types import Done, Event, Thinking, Token

# Pieces closer together than this came in one read: their distance says nothing about the engine's speed.
_SHORTEST_SPAN = 0.001


class Tally:
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
