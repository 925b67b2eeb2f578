"""A program's run, timed from outside: when it began, when what we wait for stood on its stdout."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """A program that ended well. `marks` are the seconds at which what we count came, from its start; `cpu`
    is the CPU time, in seconds, of itself and of every child that it waited for."""

    seconds: float
    marks: tuple[float, ...]
    cpu: float

    @property
    def first(self) -> float:
        return self.marks[0]

    @property
    def per_second(self) -> float:
        """How many came a second, between the first and the last."""
        return (len(self.marks) - 1) / (self.marks[-1] - self.marks[0])


def any_line(line: bytes) -> bool:
    return True


def token_event(line: bytes) -> bool:
    """A line of `rbee infer --json` that carries a token."""
    return line.startswith(b'{"event":"token"')


def token_data(line: bytes) -> bool:
    """A line of an engine's own stream that carries text."""
    return line.startswith(b"data: {") and b'"content":' in line and b'"content":null' not in line


def run(
    argv: Sequence[str],
    counts: Callable[[bytes], bool] | None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: str = "",
) -> Run:
    """Run a program to its end.

    Args:
        counts: which lines of its stdout to mark; None marks each piece of output, whole line or not.

    Raises:
        RuntimeError: it failed, or nothing of what we count came.
    """
    marks: list[float] = []
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(input.encode())
        given.seek(0)
        spent = _children_cpu()
        began = time.perf_counter()
        with subprocess.Popen(
            argv, stdin=given, stdout=subprocess.PIPE, stderr=said, env=env, cwd=cwd
        ) as one:
            assert one.stdout is not None
            pending = b""
            last = b""
            while data := os.read(one.stdout.fileno(), 65536):
                now = time.perf_counter() - began
                *lines, pending = (pending + data).split(b"\n")
                last = data
                marks += [now for line in lines if counts(line)] if counts else [now]
        seconds = time.perf_counter() - began
        if one.returncode != 0 or (counts and not marks):
            said.seek(0)
            reporter = last.decode() + said.read().decode()
            raise RuntimeError(f"status {one.returncode} from {argv}:\n{reporter}")
    return Run(seconds, tuple(marks), _children_cpu() - spent)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_cpu() -> float:
    """CPU seconds that all processes of this machine have used since it was started (proc(5), stat)."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, *more = map(int, file.readline().split()[1:8])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def now() -> float:
    """The clock that a started process shares with us."""
    return time.monotonic()


def output(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """What a program says on stdout."""
    return subprocess.run(argv, capture_output=True, env=env, cwd=cwd, check=True, text=True).stdout


_PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def peak_bytes(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> float:
    """The most memory a program held. A small process starts it: a child's peak counts that of its parent."""
    helper = [sys.executable, "-I", "-S", "-c", _PEAK, *argv]
    done = subprocess.run(helper, stdout=subprocess.PIPE, env=env, cwd=cwd, check=True, text=True)
    return float(done.stdout) * 1024
