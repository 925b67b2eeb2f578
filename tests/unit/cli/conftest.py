"""`rbee` in the test's own process: a command line, and how it ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rbee_ssh.cli.entry import SIGNALS
from rbee_ssh.cli.main import run


@dataclass(frozen=True)
class Ended:
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def rbee(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """In an empty home, with nothing to read."""
    for name in [name for name in os.environ if name.startswith(("RBEE_", "XDG_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def ended(*args: str) -> Ended:
        return Ended(run(args), *capsys.readouterr())

    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield ended
    for number, handler in handlers.items():
        signal.signal(number, handler)
