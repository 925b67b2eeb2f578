"""What is made of the sum that a node tells of a file from another node."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rbee_ssh.errors import ChecksumMismatch
from rbee_ssh.library import replicate
from rbee_ssh.library.replicate import Handed
from rbee_ssh.models import receiver
from rbee_ssh.models.known_sums import Belonging
from rbee_ssh.models.receiver import Placed
from rbee_ssh.models.store import Note
from rbee_ssh.reporter import SilentReporter

A, B = "a1" * 32, "b2" * 32
FILE = Handed("/there/m.gguf", Belonging(f"local/{A[:12]}/m.gguf", Note("x", told_by="n")), 5, A)
THERE = Placed("/store/m.gguf", 5, 1)


@pytest.mark.parametrize(
    ("answer", "last", "becomes", "done"),
    [
        (A, False, THERE, ["placed"]),
        (B, False, None, ["forgotten"]),
        (B, True, ChecksumMismatch, ["forgotten"]),
        ("", False, ChecksumMismatch, ["forgotten"]),  # a node without a SHA-256 program
        (THERE, True, THERE, []),
    ],
)
def test_only_a_proven_file_gets_its_place(
    monkeypatch: pytest.MonkeyPatch, answer: Any, last: bool, becomes: Any, done: list[str]
) -> None:
    did: list[str] = []

    async def place(connection: Any, incoming: Any, where: str, note: Note, sha256: str) -> Placed:
        assert (where, sha256, note.sha256, note.told_by) == (FILE.belongs.place, A, A, "n")
        assert note.verified
        did.append("placed")
        return THERE

    async def forget(*_: Any) -> None:
        did.append("forgotten")

    monkeypatch.setattr(receiver, "place", place)
    monkeypatch.setattr(receiver, "forget", forget)
    target = SimpleNamespace(connection=SimpleNamespace(name="to"), incoming=None)
    settling = replicate._settled(
        cast(Any, SimpleNamespace(reporter=SilentReporter())),
        cast(Any, SimpleNamespace(name="from")),
        FILE,
        cast(Any, target),
        answer,
        last=last,
    )
    if becomes is ChecksumMismatch:
        with pytest.raises(ChecksumMismatch):
            asyncio.run(settling)
    else:
        assert asyncio.run(settling) == becomes
    assert did == done
