"""Moments of a start. Those that pass in milliseconds are held on the node until a test lets go of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import IO

from nodes.serving import engines_on, eventually

from nodekit import LabNode
from nodekit.proc import of_sshd

# As long as a start may take where the processors are busy.
PATIENCE = 40

# start.sh takes random bytes for the worker's key while it holds the node's lock.
OD = """#!/bin/sh
case "$*" in */dev/urandom)
    : >"$HOME/reached"
    until [ -e "$HOME/go" ]; do sleep 0.05; done
    ;;
esac
exec /usr/bin/od "$@"
"""

# The engine's Python. Before the real engine there is somebody on its socket who says what llama.cpp says
# while it loads: 503.
PYTHON = """#!/bin/sh
case $2 in */serve.py) /usr/bin/python3 -c '
import json, os, socket, sys
path = json.load(open(sys.argv[1]))["host"]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
server.settimeout(0.05)
while not os.path.exists(os.environ["HOME"] + "/go"):
    try:
        there, _ = server.accept()
        there.settimeout(0.5)
        there.recv(9999)
        there.sendall(b"HTTP/1.1 503 Loading\\\\r\\\\nContent-Length: 0\\\\r\\\\n\\\\r\\\\n")
        there.close()
    except OSError:
        continue
    open(os.environ["HOME"] + "/reached", "w").close()
os.unlink(path)
' "$3" ;; esac
exec {python} "$@"
"""


def hold(node: LabNode, moment: str, python: str) -> str:
    """Prepare a node whose .bashrc puts ~/bin first in PATH; returns the Python to name in the inventory."""
    if moment == "lock":
        node.write("bin/od", OD, mode=0o755)
    if moment != "load":
        return python
    node.write("python", PYTHON.replace("{python}", python), mode=0o755)
    return f"{node.home}/python"


def wait_for(moment: str, node: LabNode, process: subprocess.Popen[str]) -> None:
    """Until an `infer --json` got there: its login, its probe, the node's lock, a load, or a first token."""
    there: dict[str, Callable[[], object]] = {
        "login": lambda: any(of_sshd(p) and p.uid == node.uid for p in node.processes(everybody=True)),
        "probe": node.processes,
        "lock": lambda: node.outside("reached").exists() and lock_holder(node),
        "load": lambda: node.outside("reached").exists() and engines_on(node),
    }
    if moment == "token":
        assert process.stdout is not None
        assert first(process.stdout, '"token"'), "an answer began"
    else:
        eventually(there[moment], within=PATIENCE, why=f"the command got to its {moment}")


def let_go(moment: str, node: LabNode, following: subprocess.Popen[str]) -> None:
    """Go on with what is held, once the next `infer` has come upon it."""
    if moment == "lock":
        assert following.stderr is not None
        assert first(following.stderr, "starting xllamacpp"), "it saw no worker, and now waits for the lock"
    if moment == "load":
        node.outside("reached").unlink()
        wait_for("load", node, following)
    node.write("go", "")


def first(lines: IO[str], part: str) -> str:
    """Read on to the first line that holds `part`; empty when there is none."""
    return next((line for line in lines if part in line), "")


def lock_holder(node: LabNode) -> int | None:
    """The process that holds the lock of a node's workers, as the node counts it; None if none that lives."""
    target = node.exec_local('for l in .local/state/rbee/*/lock; do readlink "$l"; done; true').stdout
    holder = int(target.split()[0]) if target else None
    return holder if holder in [process.pid for process in node.processes()] else None
