"""HTTP/1.1 over an SSH channel: one request a channel, its answer streamed.

h11 does the protocol; this file only moves its bytes. (httpx would do it too, with a transport of its own,
and costs 50 ms of imports: a fifth of a warm answer's time to first token.)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import h11

from rbee_ssh.errors import ResponseInvalid
from rbee_ssh.ssh.connection import Connection, Proof
from rbee_ssh.ssh.lean import asyncssh

MAX_BODY = 4 * 1024 * 1024
MAX_INTERIM = 16  # of "100 Continue" and its like


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
