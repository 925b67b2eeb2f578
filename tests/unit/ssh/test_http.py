"""HTTP over a channel, with engines that say odd things: a real connection, a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rbee_ssh.errors import RbeeError, ResponseInvalid
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import http
from rbee_ssh.ssh.connection import ChannelRefused
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.ssh.http import StreamBroken

Asked = tuple[bytes, int, bytes]


def asked(directory: Path, said: bytes, *, body: bytes = b"", pause: bool = False) -> Asked:
    """What the engine saw of a request, and the status and body of what it answered."""
    path = str(directory / "e.sock")
    seen = b""

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(len(body))
        for piece in [said[at : at + 1] for at in range(len(said))] if pause else [said]:
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(0)
        writer.close()

    async def work() -> Asked:
        server = await asyncio.start_unix_server(engine, path)
        connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))
        try:
            async with http.request(
                connection, "POST", "/v1/x", socket=path, port=None, headers={"X": "y"}, body=body
            ) as answer:
                got = await answer.body()
            return seen, answer.status, got
        finally:
            await connection.close()
            server.close()
            await asyncio.sleep(0.01)

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", 200, b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", 200, b"until it closes"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", 503, b""),
        (b"HTTP/1.0 404 \xff\xfe\r\n\r\n", 404, b""),
    ],
)
@pytest.mark.parametrize("pause", [False, True], ids=["whole", "byte by byte"])
def test_answers(tmp_path: Path, said: bytes, status: int, body: bytes, pause: bool) -> None:
    seen, got_status, got_body = asked(tmp_path, said, pause=pause)
    assert (got_status, got_body) == (status, body)
    assert seen.startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert b"Connection: close" in seen


def test_a_body_is_sent_whole(tmp_path: Path) -> None:
    body = bytes(range(256)) * 10_000
    seen, _, _ = asked(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", body=body)
    assert seen.endswith(body)
    assert f"Content-Length: {len(body)}".encode() in seen


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", StreamBroken),
        (b"HTTP/1.1 200 OK\r\nContent-Le", StreamBroken),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", StreamBroken),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", StreamBroken),
        (b"SSH-2.0-OpenSSH\r\n" * 9, StreamBroken),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ResponseInvalid),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", ResponseInvalid),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi", ResponseInvalid),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n", ResponseInvalid),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", ResponseInvalid),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (http.MAX_BODY + 1), ResponseInvalid),
        (b"\xff\x00" * 5000, StreamBroken),
    ],
)
def test_answers_that_are_none(tmp_path: Path, said: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        asked(tmp_path, said)
    assert isinstance(raised.value, StreamBroken | RbeeError)


def test_nobody_there(tmp_path: Path) -> None:
    async def work() -> None:
        connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))
        try:
            async with http.request(
                connection, "GET", "/", socket=str(tmp_path / "no.sock"), port=None, headers={}
            ):
                pass
        finally:
            await connection.close()

    with pytest.raises(ChannelRefused):
        asyncio.run(work())
