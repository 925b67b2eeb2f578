"""What a connection puts on the wire, and that nothing is lost of it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from unit.ssh.servers import NoLogin, Process

from rbee_ssh.ssh.lean import asyncssh, streamline

PIECES = 200


async def sent(cipher: str, *, streamlined: bool) -> tuple[int, int]:
    """Bytes on the wire, and how often there were some, for PIECES pieces of one byte. A large one comes back
    whole."""
    wire = wakes = 0
    ended = asyncio.Event()

    async def echo(process: Process) -> None:
        while data := await process.stdin.read(65536):
            process.stdout.write(data)
            await process.stdout.drain()
        process.exit(0)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What the client sends, counted."""
        nonlocal wire, wakes
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.get_port())

        async def back() -> None:
            while data := await far_reader.read(1 << 20):
                writer.write(data)

        answering = asyncio.create_task(back())
        while data := await reader.read(1 << 20):
            wire, wakes = wire + len(data), wakes + 1
            far_writer.write(data)
        for one in (far_writer, writer):
            one.close()
            await one.wait_closed()
        await answering
        ended.set()

    server = await asyncssh.listen(
        *("127.0.0.1", 0),
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=echo,
        encoding=None,
        encryption_algs=[cipher],
        server_factory=NoLogin,
    )
    counting = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = counting.sockets[0].getsockname()[1]
    connecting = asyncssh.connect(
        *("127.0.0.1", port),
        config=None,
        known_hosts=None,
        client_keys=None,
        username="me",
        encryption_algs=[cipher],
    )
    async with server, counting, connecting as connection:
        if streamlined:
            streamline(connection)
        async with connection.create_process("cat", encoding=None) as process:
            before, woken = wire, wakes
            for _ in range(PIECES):
                process.stdin.write(b"x")
            assert await process.stdout.readexactly(PIECES) == b"x" * PIECES
            taken = wire - before, wakes - woken
            large = os.urandom(5_000_000)
            process.stdin.write(large)
            process.stdin.write_eof()
            assert await process.stdout.read() == large
        connection.close()
        await ended.wait()
    return taken


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
def test_a_packet_costs_one_packet_and_many_cost_few_calls(cipher: str) -> None:
    plain = asyncio.run(sent(cipher, streamlined=False))
    ours = asyncio.run(sent(cipher, streamlined=True))
    assert ours[0] < 0.7 * plain[0], "no empty packet before each"
    assert ours[1] < PIECES / 10


def test_a_cipher_that_may_need_them_keeps_the_empty_packets() -> None:
    plain = asyncio.run(sent("aes128-cbc", streamlined=False))
    ours = asyncio.run(sent("aes128-cbc", streamlined=True))
    assert ours[0] == plain[0]


def test_padding_is_random_and_never_the_same() -> None:
    async def logged_in() -> None:
        await sent("aes128-gcm@openssh.com", streamlined=True)

    asyncio.run(logged_in())
    theirs = vars(sys.modules["asyncssh.connection"])["os"]
    given = [theirs.urandom(size) for size in (4, 19, 1, 5000, *[8] * 2000)]
    assert [len(one) for one in given] == [4, 19, 1, 5000, *[8] * 2000]
    assert len(set(given[4:])) == 2000
    assert theirs.path is os.path
