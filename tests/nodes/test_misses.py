"""A worker that runs and cannot be used: each way has its end, and none is tried for ever."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from nodes.serving import (
    GREEDY,
    PROMPT,
    engines_on,
    equip,
    events,
    eventually,
    kill,
    model,
    text_of,
    workers,
)
from nodes.test_start_errors import FAKE, programs_of
from nodes.test_tunnel import tunnelled

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import reconfigure_sshd


def ask(control: Control, engines: Engines, *args: str) -> subprocess.CompletedProcess[str]:
    words = ["--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", *args, PROMPT]
    return control.rbee(*words)


def error_of(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert answer.returncode == 1, answer.stdout + answer.stderr
    return dict(events(answer)[-1]["error"])


def forget(control: Control) -> None:
    """As another control machine, or after the registry was deleted."""
    (control.home / ".local/state/rbee/registry.json").unlink()


@pytest.mark.parametrize("lost", ["socket", "key"])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_worker_that_lost_a_file_is_replaced(
    node: LabNode, control: Control, engines: Engines, lost: str, remembered: bool
) -> None:
    equip(control, engines, node)
    first = ask(control, engines)
    (worker,) = workers(control)
    socket = worker["endpoint"].removeprefix("unix:")
    node.exec_local(f"rm {socket if lost == 'socket' else Path(worker['log']).parent / 'key'}")
    if not remembered:
        forget(control)
    second = ask(control, engines)
    assert text_of(second) == text_of(first) != "", second.stdout + second.stderr
    if lost == "socket" or not remembered:
        assert events(second)[0]["worker"] != worker["id"]
    assert len(engines_on(node)) == 1, "the one that nobody can reach was stopped"


def test_forwarding_that_was_switched_off_is_told(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    assert ask(control, engines).returncode == 0
    reconfigure_sshd(node, "AllowStreamLocalForwarding no")
    assert error_of(ask(control, engines))["code"] == "FORWARDING_REFUSED", (
        "of a worker that was there before"
    )
    assert len(workers(control)) == 1
    control.rbee("workers", "stop", "--all", "--now", check=True)
    answer = ask(control, engines)
    assert error_of(answer)["code"] == "FORWARDING_REFUSED", "of a new one"
    assert answer.stderr.count("loading") <= 1


def test_a_worker_that_hangs_before_it_answers_is_told(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, text="[timeouts]\nfirst_token = 1\n")
    assert ask(control, engines).returncode == 0, "a tick takes longer than that limit"
    (pid,) = engines_on(node)
    kill(node, pid, signal="STOP")
    began = time.monotonic()
    error = error_of(ask(control, engines))
    assert error["code"] == "WORKER_STALLED"
    assert time.monotonic() - began < 60
    kill(node, pid, signal="CONT")


def test_a_worker_that_dies_of_a_request_is_not_fed_the_next_one(
    node: LabNode, control: Control, engines: Engines
) -> None:
    """As when the prompt's memory is what the machine does not have: five starts would end alike."""
    equip(control, engines, node)
    assert ask(control, engines).returncode == 0
    (worker,) = workers(control)
    (pid,) = engines_on(node)
    kill(node, pid, signal="STOP")
    process = control.rbee_popen("--json", "infer", *model(engines), PROMPT)
    eventually(lambda: workers(control)[0]["state"] == "busy", within=10, why="it was asked")
    kill(node, pid)
    out, err = process.communicate(timeout=30)
    error = json.loads(out.splitlines()[-1])["error"]
    assert (error["code"], error["details"]["exit_status"]) == ("WORKER_CRASHED", 137), out + err
    assert error["details"]["worker"] == worker["id"]
    assert engines_on(node) == []


LOADS_FOR_EVER = """
while [ $# -gt 0 ]; do case $1 in --host) SOCKET=$2 ;; esac; shift; done
exec /usr/bin/python3 -c '
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    there, _ = server.accept()
    there.recv(9999)
    there.sendall(b"HTTP/1.1 503 Loading\\r\\nContent-Length: 0\\r\\n\\r\\n")
    there.close()
' "$SOCKET"
"""


def test_a_load_without_progress_is_stopped(node: LabNode, control: Control, engines: Engines) -> None:
    node.write("llama-server", FAKE + LOADS_FOR_EVER, mode=0o755)
    home = node.exec_local("pwd").stdout.strip()
    keys = {"engine": "llama-server", "engine_path": f"{home}/llama-server"}
    control.inventory(node, every=keys, text="[timeouts]\nload = 1\nload_per_gib = 0\nterm = 2\n")
    error = error_of(ask(control, engines))
    assert error["code"] == "WORKER_START_TIMEOUT"
    assert "it was stopped" in error["message"]
    assert programs_of(node) == []
    assert workers(control) == []


THIEF = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
while True:
    there, _ = server.accept()
    with open("stolen", "ab") as file:
        file.write(there.recv(9999))
    there.close()
"""


def test_a_port_that_another_user_took_is_shown_no_key(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, listen="tcp")
    thief = node.add_user("thief")
    answered = ask(control, engines)
    assert answered.returncode == 0, answered.stdout + answered.stderr
    first = events(answered)[0]["worker"]
    (worker,) = workers(control)
    with tunnelled(control, first) as tunnel:
        port = worker["endpoint"].rpartition(":")[2]
        kill(node, *engines_on(node))
        node.write("/tmp/thief.py", THIEF, mode=0o644)
        node.exec_local(f"/usr/bin/python3 /tmp/thief.py {port} </dev/null >/dev/null 2>&1 &", user=thief)
        eventually(lambda: f"127.0.0.1:{port}" in node.listening_tcp(), within=5, why="the port is taken")
        answer = ask(control, engines)
        assert events(answer)[0]["worker"] != first, answer.stderr
        assert json.loads(tunnel.ask(control).stdout)["choices"]
    assert node.exec_local("cat stolen; true", user=thief).stdout == ""
