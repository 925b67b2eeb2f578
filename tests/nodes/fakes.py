"""Workers without a model and nodes without sshd: the scripts as real processes on this machine."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from processes.shells import ID, Shell, processes_of

from nodekit.running import wait_until
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers.start import START

START_BODY = compose(LIB, LOOK, START)
OTHER, THIRD, FOURTH = (secrets.token_hex(6) for _ in range(3))
SLEEPER = "echo model loaded\nexec sleep 600\n"
# Holds each connection until its client leaves.
SERVER = f"""exec {sys.executable} -S -E -c '
import socket, sys, threading
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("model loaded", flush=True)
def hold(connection):
    while connection.recv(1000):
        pass
    connection.close()
while True:
    threading.Thread(target=hold, args=(listener.accept()[0],), daemon=True).start()
' "$PWD/worker.sock"
"""


def on_port(*pieces: str | float) -> str:
    """An engine that listens on a free port of 127.0.0.1, then says these pieces, or nothing for seconds.

    PORT in them is its port; HEAD and TAIL are its first two digits, and the others.
    """
    return f"""exec {sys.executable} -S -E -c '
import socket, sys, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
port = str(listener.getsockname()[1])
for kind, piece in zip(sys.argv[1::2], sys.argv[2::2]):
    if kind == "float":
        time.sleep(float(piece))
    else:
        piece = piece.replace("PORT", port).replace("HEAD", port[:2]).replace("TAIL", port[2:])
        print(piece, end="", flush=True)
time.sleep(600)
' """ + " ".join(f"{type(piece).__name__} {quote(str(piece))}" for piece in pieces)


def listens(shell: Shell, worker_id: str = ID) -> set[int]:
    """The ports on which a worker's engine really listens."""
    pid = (shell.root / "workers" / worker_id / "pid").read_text().split()[0]
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines if f"pid={pid}," in line}


def eventually(true: Callable[[], object], *, within: float = 10, why: str = "") -> None:
    wait_until(why, lambda: bool(true()), timeout=within, every=0.02)


def engines(shell: Shell) -> list[int]:
    return [
        pid for pid, line in processes_of(shell.home).items() if line == "sleep 600" or "-S -E -c" in line
    ]


def supervisors(shell: Shell) -> list[int]:
    """Supervisors and their tickers."""
    return [pid for pid, line in processes_of(shell.home).items() if "supervise.sh" in line]


def supervisor(shell: Shell) -> int:
    return int((shell.worker() / "supervisor").read_text().split()[0])


def served(shell: Shell, **options: object) -> Path:
    """A worker that listens, and the path of its socket."""
    seen = shell.start(shell.start_words("cd ${0%/*}\n" + SERVER, late=False, **options))  # type: ignore[arg-type]
    assert seen.records[-1].state in ("loading", "idle"), seen
    return Path(seen.records[-1].text("socket"))
