"""HTTP/1.1 over an SSH channel: one request a channel, its answer streamed, as server-sent events if it is.

h11 does the protocol; this file only moves its bytes. (httpx would do it too, with a transport of its own,
and costs 50 ms of imports: a fifth of a warm answer's time to first token.)
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import h11

from rbee_ssh.errors import ResponseInvalid
from rbee_ssh.ssh.connection import Connection, Proof
from rbee_ssh.ssh.lean import asyncssh

MAX_BODY = 4 * 1024 * 1024
MAX_INTERIM = 16  # of "100 Continue" and its like
MAX_EVENT_BYTES = 1 << 20  # of one line, and of the data of one server-sent event

_LINE_END = re.compile(rb"\r\n|\n|\r")
_IGNORED = frozenset({b"id", b"retry"})  # of use only to a client that reconnects
_SHOWN_CHARACTERS = 200


class StreamBroken(Exception):
    """The answer ended before it was complete: the engine or its socket went away. Never shown as it is."""


class _Exchange:
    """h11 fed from a channel."""

    def __init__(self, connection: Connection, reader: asyncssh.SSHReader[bytes]) -> None:
        self.http = h11.Connection(h11.CLIENT)
        self._connection = connection
        self._reader = reader
        self._ended = False

    async def next(self) -> h11.Event:
        while True:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as error:
                if self._ended:
                    raise StreamBroken(str(error)) from error
                raise ResponseInvalid(f"a worker's answer is not HTTP: {error}") from error
            if event is h11.NEED_DATA:
                try:
                    data = await self._reader.read(65536)
                except (asyncssh.Error, OSError) as error:
                    raise StreamBroken(str(error)) from error
                self._connection.acknowledge()
                self._ended = not data
                self.http.receive_data(data)
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise StreamBroken("closed before the answer was complete")
            else:
                return event  # type: ignore[return-value]  # the sentinels are handled above


class Response:
    """A status and a body that is read as it comes."""

    def __init__(self, status: int, exchange: _Exchange) -> None:
        self.status = status
        self._exchange = exchange

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, in the pieces in which it came.

        Raises:
            StreamBroken: the body ended early.
        """
        while True:
            event = await self._exchange.next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            StreamBroken: it ended early.
            ResponseInvalid: it is larger than any answer that is not a stream.
        """
        collected = bytearray()
        async for chunk in self.chunks():
            collected += chunk
            if len(collected) > MAX_BODY:
                raise ResponseInvalid(f"an HTTP answer of more than {MAX_BODY} bytes")
        return bytes(collected)


@contextlib.asynccontextmanager
async def request(
    connection: Connection,
    method: str,
    target: str,
    *,
    socket: str | None,
    port: int | None,
    headers: Mapping[str, str],
    body: bytes = b"",
    proof: Proof | None = None,
) -> AsyncIterator[Response]:
    """Send one request to a worker and give back its answer once the status line is there.

    Leaving the context closes the channel, which is how a generation is cancelled.

    Args:
        proof: see Connection.stream; asked before anything is sent.

    Raises:
        ChannelRefused: nothing listens there any more, or somebody else does.
        StreamBroken: the other side went away before it answered.
        ConnectionLost: the SSH connection broke.
        ResponseInvalid: what came is not HTTP.
    """
    async with connection.stream(socket, port, proof) as (reader, writer):
        exchange = _Exchange(connection, reader)
        head = [("Host", "localhost"), ("Connection", "close"), *headers.items()]
        if body:
            head.append(("Content-Length", str(len(body))))
        data = exchange.http.send(h11.Request(method=method, target=target, headers=head)) or b""
        if body:
            data += exchange.http.send(h11.Data(data=body)) or b""
        data += exchange.http.send(h11.EndOfMessage()) or b""
        try:
            try:
                writer.write(data)
                await writer.drain()
            except (asyncssh.Error, OSError) as error:
                raise StreamBroken(str(error)) from error
            for _ in range(MAX_INTERIM):
                if isinstance(event := await exchange.next(), h11.Response):
                    break
            else:
                raise ResponseInvalid(f"more than {MAX_INTERIM} HTTP answers that another one will follow")
            yield Response(event.status_code, exchange)
        except StreamBroken as error:
            if connection.closed:
                raise connection.lost(error) from error
            raise


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event. `name` is "message" unless the server named it."""

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
