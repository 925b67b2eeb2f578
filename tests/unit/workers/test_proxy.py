"""The tunnel's local port: real sockets, a real SSH connection, and an engine of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import NodeUnreachable, UsageInvalid
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.workers.proxy import MAX_HEAD, UpstreamChannel, authorized, rewrite, served

KEY, WORKERS_KEY = "0123456789abcdef", "fedcba9876543210"
SHOWN = f"Authorization: Bearer {KEY}\r\n"
Engine = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def tunnelled(directory: Path, engine: Engine) -> AsyncIterator[int]:
    """A local port before this engine."""
    path = str(directory / "engine.sock")
    server = await asyncio.start_unix_server(engine, path)
    connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))

    @contextlib.asynccontextmanager
    async def way() -> AsyncIterator[UpstreamChannel]:
        async with connection.stream(path, None) as (reader, writer):
            yield UpstreamChannel(connection, WORKERS_KEY, reader, writer)

    try:
        async with served(way, KEY, 0) as port:
            yield port
    finally:
        await connection.close()
        server.close()


async def ask(port: int, request: str | bytes) -> bytes:
    """Everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode() if isinstance(request, str) else request)
        return await reader.read()
    finally:
        writer.close()


async def head_of(reader: asyncio.StreamReader) -> list[str]:
    return (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was asked, the body included, and hangs up."""
    head = await head_of(reader)
    length = next((int(line.split(":")[1]) for line in head if line.startswith("Content-Length")), 0)
    if any(line.startswith("Expect") for line in head):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(length)
    if "Transfer-Encoding: chunked" in head:
        body = await reader.readuntil(b"0\r\n\r\n")
    said = json.dumps([head, body.decode()]).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
    await writer.drain()
    writer.close()


def answered(answer: bytes) -> tuple[list[str], str]:
    """The head and the body that the engine saw."""
    status, _, rest = answer.partition(b"\r\n")
    assert status == b"HTTP/1.1 200 OK", answer
    head, body = json.loads(rest.partition(b"\r\n\r\n")[2])
    return head, body


def test_a_request_passes_with_the_workers_key(tmp_path: Path) -> None:
    async def work() -> bytes:
        async with tunnelled(tmp_path, echo) as port:
            return await ask(
                port,
                f"POST /v1/x?y=%20 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n{SHOWN}"
                "Keep-Alive: timeout=5\r\nContent-Length: 4\r\nX-Odd: ü\r\n\r\nbody",
            )

    head, body = answered(asyncio.run(work()))
    assert head == [
        "POST /v1/x?y=%20 HTTP/1.1",
        "Host: a",
        "Content-Length: 4",
        "X-Odd: ü",
        f"Authorization: Bearer {WORKERS_KEY}",
        "Connection: close",
    ]
    assert body == "body"


def test_bodies_however_they_are_sent(tmp_path: Path) -> None:
    async def work() -> None:
        async with tunnelled(tmp_path, echo) as port:
            start = f"POST / HTTP/1.1\r\nHost: a\r\n{SHOWN}"
            chunked = start + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            assert answered(await ask(port, chunked))[1] == "4\r\nbody\r\n0\r\n\r\n"
            big = "x" * 3_000_000
            assert answered(await ask(port, f"{start}Content-Length: {len(big)}\r\n\r\n{big}"))[1] == big
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"{start}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n".encode())
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
            await reader.readline()
            writer.write(b"late")
            assert answered(await reader.read())[1] == "late"
            writer.close()

    asyncio.run(work())


def test_one_request_a_connection(tmp_path: Path) -> None:
    """What a client sends behind its request is not a second one that nobody looked at."""
    asked = 0

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await echo(reader, writer)

    async def work() -> bytes:
        async with tunnelled(tmp_path, engine) as port:
            return await ask(port, f"GET / HTTP/1.1\r\n{SHOWN}\r\n" * 2)

    assert asyncio.run(work()).count(b"HTTP/1.1 200") == 1
    assert asked == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 401),
        (f"GET / HTTP/1.1\r\nAuthorization: Bearer {WORKERS_KEY}\r\n\r\n", 401),
        (f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEY}x\r\n\r\n", 401),
        (f"Authorization: Bearer {KEY}\r\n\r\n", 401),
        ("GET / HTTP/1.1\r\nX: " + "x" * 2 * MAX_HEAD + "\r\n\r\n", 431),
    ],
)
def test_who_does_not_show_the_key_gets_nowhere(tmp_path: Path, request_: str, status: int) -> None:
    asked = False

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = True

    async def work() -> bytes:
        async with tunnelled(tmp_path, engine) as port:
            return await ask(port, request_)

    answer = asyncio.run(work())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == status
    assert not asked


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says something until nobody listens any more."""
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    with contextlib.suppress(OSError):
        while not reader.at_eof():
            writer.write(b"data: x\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("who", ["client", "tunnel"])
def test_whoever_leaves_the_engine_hears_of_it(tmp_path: Path, who: str) -> None:
    async def work() -> tuple[float, float]:
        left = asyncio.Event()

        async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await trickle(reader, writer)
            left.set()
            writer.close()

        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(tunnelled(tmp_path, engine))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET / HTTP/1.1\r\n{SHOWN}\r\n".encode())
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            began = time.monotonic()
            if who == "client":
                writer.transport.abort()
                async with asyncio.timeout(2):
                    await left.wait()
            else:
                await stack.aclose()  # Ctrl+C, while a client listens
            closed = time.monotonic() - began
            async with asyncio.timeout(2):
                await left.wait()
            writer.close()
            return closed, time.monotonic() - began

    # Whoever waits for the other side waits for 2 s each time; a machine stands still only once in a while.
    tries = [asyncio.run(work()) for _ in range(3)]
    assert min(closed for closed, _ in tries) < 1.5
    assert min(heard for _, heard in tries) < 1.5


def test_a_client_that_has_not_asked_yet_holds_no_end_up(tmp_path: Path) -> None:
    async def work() -> float:
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(tunnelled(tmp_path, echo))
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HT")
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await stack.aclose()
            writer.close()
            return time.monotonic() - began

    assert min(asyncio.run(work()) for _ in range(3)) < 1.5


def test_a_worker_that_is_out_of_reach_is_told(tmp_path: Path) -> None:
    async def work(*, there: bool) -> bytes:
        connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))

        @contextlib.asynccontextmanager
        async def way() -> AsyncIterator[UpstreamChannel]:
            if not there:
                raise NodeUnreachable("node 'a' is off")
            async with connection.stream(str(tmp_path / "nothing.sock"), None) as (reader, writer):
                yield UpstreamChannel(connection, WORKERS_KEY, reader, writer)

        try:
            async with served(way, KEY, 0) as port:
                return await ask(port, f"GET / HTTP/1.1\r\n{SHOWN}\r\n")
        finally:
            await connection.close()

    for there in (True, False):
        answer = asyncio.run(work(there=there))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert (b"is off" in answer) is not there


def test_a_port_that_is_taken_is_told() -> None:
    def nowhere() -> contextlib.AbstractAsyncContextManager[UpstreamChannel]:
        raise AssertionError

    async def work() -> None:
        async with served(nowhere, KEY, 0) as port:
            with pytest.raises(UsageInvalid, match=str(port)):
                async with served(nowhere, KEY, port):
                    pass

    asyncio.run(work())


def crowd(port: int, count: int, start: bytes) -> list[socket.socket]:
    """Connections that say this and nothing more."""
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(("127.0.0.1", port), 5))
        with contextlib.suppress(OSError):  # it may have had enough of us
            connections[-1].sendall(start)
    return connections


def test_who_shows_the_key_is_not_put_out_by_others(tmp_path: Path) -> None:
    """A request that is being answered stays, and one that comes while others wait is heard at once."""

    async def work() -> None:
        heard = asyncio.Event()

        async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set()
            await echo(reader, writer)

        async with tunnelled(tmp_path, engine) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST / HTTP/1.1\r\nHost: a\r\n{SHOWN}Content-Length: 4\r\n\r\n".encode())
            await heard.wait()
            others = await asyncio.to_thread(crowd, port, 300, b"GET /")
            writer.write(b"body")
            assert answered(await reader.read())[1] == "body"
            writer.close()
            # The first ones have made room for the last ones.
            assert await asyncio.to_thread(others[0].recv, 1) == b""
            others[-1].settimeout(0.2)
            with pytest.raises(TimeoutError):
                others[-1].recv(1)
            for one in others:
                one.close()

    asyncio.run(work())


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\r\n" not in line), max_size=8))
def test_whatever_a_head_holds_only_our_key_goes_on(lines: list[bytes]) -> None:
    head = rewrite([b"GET / HTTP/1.1", *lines, b"AUTHORIZATION : Bearer theirs"], WORKERS_KEY)
    assert head.endswith(b"\r\nAuthorization: Bearer fedcba9876543210\r\nConnection: close\r\n\r\n")
    assert b"theirs" not in head
    assert authorized([b"GET /", *lines], KEY) is False
