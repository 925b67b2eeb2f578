"""A unit test starts no program: what does is in tests/processes."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

# Whose files we read and write: nobody else can say whether that is right, and they take milliseconds.
ALLOWED = {"ssh", "ssh-keygen"}
_start = subprocess.Popen.__init__


@pytest.fixture(autouse=True)
def no_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: subprocess.Popen[Any], args: Any, *more: Any, **options: Any) -> None:
        if isinstance(args, str) or args[0] not in ALLOWED:
            raise AssertionError(f"a unit test starts {args}: it belongs into tests/processes")
        _start(self, args, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
