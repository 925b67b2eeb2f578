"""Servers that lie before there is a session, or instead of one."""

from __future__ import annotations

import random
import socket
import threading

import pytest
from asyncssh.packet import String
from nodes.liar import NAME, Asked, Liar, answering, honest
from nodes.lies import COMMANDS, FEW, GARBAGE, TIMEOUTS, ask, sound
from nodes.measured import MIB, measured

from nodekit import Control


def test_sessions_that_are_refused_at_random(liar: Liar, control: Control) -> None:
    chance = random.Random(11)
    liar.socket = answering('{"choices":[{"delta":{"content":"a"}}]}')
    liar.opens = lambda: chance.random() < 0.5
    for answer in ask(control, ["status", "models", "infer"], "--json").values():
        assert answer.codes <= {"SESSION_LIMIT"}


def test_sessions_that_are_never_opened(control: Control) -> None:
    with Liar() as liar:
        liar.known_to(control, text=TIMEOUTS.replace("start = 5", "start = 1"))
        liar.opens = lambda: None
        answers = ask(control, [*FEW, "run", "logs"], "--json")
    assert answers["status"].codes == answers["infer"].codes == answers["run"].codes == {"SHELL_UNUSABLE"}
    assert max(answer.seconds for answer in answers.values()) < 30


def test_a_packet_that_unpacks_to_a_hundred_times_its_size(control: Control) -> None:
    """A server that insists on compression gets no login; one of OpenSSH's has "none" as well."""

    async def bomb(asked: Asked) -> None:
        asked.process.channel.get_connection().send_packet(2, String(bytes(300 * MIB)))
        await honest(asked)

    with Liar(bomb, compression_algs=["zlib@openssh.com"]) as liar:
        liar.known_to(control, text=TIMEOUTS)
        answer = sound(measured(control, "--json", *COMMANDS["status"]))
    assert answer.codes == {"NODE_UNREACHABLE"}


@pytest.mark.parametrize(
    ("said", "endless"),
    [
        (b"", False),
        (GARBAGE, True),
        (b"SSH-2.0-\x1b[2J\r\n" + GARBAGE, True),
    ],
    ids=["nothing", "endless garbage", "a version and endless garbage"],
)
def test_what_is_no_ssh(control: Control, said: bytes, endless: bool) -> None:
    """Before there is a host key."""

    def speak(server: socket.socket) -> None:
        while True:
            try:
                there = server.accept()[0]
            except OSError:
                return
            with there:
                try:
                    there.sendall(said)
                    while endless and said:
                        there.sendall(said * 100)
                    there.recv(100)
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        speaking = threading.Thread(target=speak, args=(server,), daemon=True)
        speaking.start()
        where = {"host": "127.0.0.1", "port": server.getsockname()[1], "user": "me"}
        control.inventory(nodes_also={NAME: where}, text=TIMEOUTS)
        answer = sound(measured(control, "--json", *COMMANDS["status"], limit=30))
        server.shutdown(socket.SHUT_RDWR)
        speaking.join(5)
    assert answer.codes == {"NODE_UNREACHABLE"}
