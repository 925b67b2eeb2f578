"""Errors of a node that no other file provokes: its lock, its sessions, an engine that answers nonsense."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nodes.test_misses import ask, error_of
from nodes.test_start_errors import FAKE

from nodekit import Control, LabNode
from nodekit.engines import Engines

# Serves a socket as llama-server does, and gives these bytes for every request but that for its health.
ANSWERS = """
while [ $# -gt 0 ]; do case $1 in --host) SOCKET=$2 ;; esac; shift; done
exec /usr/bin/python3 -c '
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("server is listening on it; main: model loaded", flush=True)
while True:
    there, _ = server.accept()
    asked = there.recv(99999)
    there.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n" if b"/health" in asked else {answer})
    there.close()
' "$SOCKET"
"""


def fake(node: LabNode, control: Control, answer: bytes) -> None:
    """A node whose llama-server gives this answer to every prompt."""
    program = ANSWERS.replace("{answer}", f'bytes.fromhex("{answer.hex()}")')
    node.write("llama-server", FAKE + program, mode=0o755)
    home = node.exec_local("pwd").stdout.strip()
    control.inventory(node, every={"engine": "llama-server", "engine_path": f"{home}/llama-server"})


def http(status: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("RESPONSE_INVALID", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("RESPONSE_INVALID", http("302 Found\r\nLocation: http://192.0.2.1/")),
        ("RESPONSE_INVALID", http("429 Too Many Requests")),
        ("API_KEY_REJECTED", http("401 Unauthorized")),
        ("REQUEST_REFUSED", http("500 No", '{"error":{"message":"no"}}')),
    ],
    ids=["not HTTP", "302", "429", "401", "500"],
)
def test_an_engine_that_answers_nonsense(
    node: LabNode, control: Control, engines: Engines, code: str, answer: bytes
) -> None:
    fake(node, control, answer)
    error = error_of(ask(control, engines))
    assert error["code"] == code, error
    assert error["hint"].startswith("rbee workers ")
    control.rbee("workers", "stop", "--all", "--now", check=True)


def test_a_lock_that_somebody_holds(node: LabNode, control: Control, engines: Engines) -> None:
    fake(node, control, http("500 No", '{"error":{"message":"no"}}'))
    assert error_of(ask(control, engines))["code"] == "REQUEST_REFUSED"
    control.rbee("workers", "stop", "--all", "--now", check=True)
    root = node.exec_local("dirname ~/.local/state/rbee/*/workers").stdout.strip()
    boot = node.exec_local("cat /proc/sys/kernel/random/boot_id").stdout.strip()
    holder = node.exec_local("sleep 600 </dev/null >/dev/null 2>&1 & echo $!").stdout.strip()
    started = node.exec_local(f"cut -d' ' -f22 /proc/{holder}/stat").stdout.strip()
    node.exec_local(f"ln -s '{holder} {started} {boot}' {root}/lock")
    error = error_of(ask(control, engines))
    assert error["code"] == "NODE_LOCKED"
    assert holder in error["message"]
    node.exec_local(f"kill {holder}")
    assert error_of(ask(control, engines))["code"] == "REQUEST_REFUSED", "a dead holder's lock is taken over"
    control.rbee("workers", "stop", "--all", "--now", check=True)


def test_a_server_that_gives_no_session(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    node = make_node(sshd_options={"MaxSessions": 0})
    control.inventory(node)
    error = error_of(ask(control, engines, "--node", node.name))
    assert error["code"] == "SESSION_LIMIT"
    assert "MaxSessions" in f"{error['message']}{error['hint']}"
