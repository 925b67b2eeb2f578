"""`rbee` as a process, with the memory and the time it took."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekit import Control
from nodekit.control import rbee_path
from nodekit.running import run

MIB = 1024 * 1024
# The peak that the kernel tells of a process is never less than that of the one it was forked from: that is a
# small one, and not the tests' own.
_BETWEEN = """
import json, os, sys, time
out, err, told, limit, *argv = sys.argv[1:]
how = os.O_WRONLY | os.O_CREAT
files = [(os.POSIX_SPAWN_OPEN, number, path, how, 0o600) for number, path in ((1, out), (2, err))]
began = time.monotonic()
pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=files)
while True:
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    seconds = time.monotonic() - began
    if ended:
        break
    if seconds > float(limit):
        os.kill(pid, 9)
    time.sleep(0.01)
status = os.waitstatus_to_exitcode(status)
with open(told, "w") as file:
    json.dump({"status": status, "seconds": seconds, "peak": usage.ru_maxrss * 1024}, file)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a command ended. `peak`: bytes of memory; a status of -9: it was killed at the limit."""

    status: int
    seconds: float
    peak: int
    stdout: bytes
    stderr: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines that --json printed."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def codes(self) -> set[str]:
        """Of the errors, the command's own and those of nodes."""
        return {code for event in self.events for code in _codes(event)}


def measured(control: Control, *words: str, limit: float = 60) -> Measured:
    """Run `rbee` to its end, or until the limit in seconds."""
    with tempfile.TemporaryDirectory() as directory:
        out, err, told = (Path(directory, name) for name in ("out", "err", "told"))
        between: list[str | Path] = [sys.executable, "-I", "-S", "-c", _BETWEEN, out, err, told, str(limit)]
        run(
            [*between, rbee_path(), *words],
            env=control.env,
            cwd=control.work,
            timeout=limit + 30,
        )
        return Measured(**json.loads(told.read_text()), stdout=out.read_bytes(), stderr=err.read_bytes())


def _codes(value: Any) -> set[str]:
    if isinstance(value, list):
        return {code for inner in value for code in _codes(inner)}
    if not isinstance(value, dict):
        return set()
    own = {value["code"]} if {"code", "message"} <= value.keys() else set()
    return own | {code for inner in value.values() for code in _codes(inner)}
