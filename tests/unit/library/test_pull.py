"""A model handed on to several nodes: who has it is not called failed when the origin is lost meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rbee_ssh.errors import ConnectionLost
from rbee_ssh.library import pull
from rbee_ssh.library.pull import Pulled
from rbee_ssh.library.push import Pushed
from rbee_ssh.library.replicate import Handed
from rbee_ssh.models import relay
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.remote import Remote, RemoteFile
from rbee_ssh.reporter import SilentReporter

PLACE = "hf/org/repo/0123/m.gguf"
REMOTE = Remote(HubRef("org", "repo"), "hf:org/repo", "c0ffee", (RemoteFile("m.gguf", PLACE, 9, "0" * 64),))
FLEET = cast(Any, SimpleNamespace(reporter=SilentReporter()))


def handed_on(nodes: Sequence[str]) -> tuple[list[str], Any]:
    """Who was told of, and what `_hand_on` returns."""
    told: list[Pulled] = []
    answer = asyncio.run(pull._hand_on(FLEET, REMOTE, "origin", "/elsewhere/x.gguf", nodes, told.append))
    return [one.node for one in told], answer


def test_a_lost_origin_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spread(
        pool: Any,
        node: str,
        files: Sequence[Handed],
        nodes: Sequence[str],
        on_node: Callable[[Pushed], None],
    ) -> dict[str, Any]:
        for name in nodes[:3]:  # the second batch of three finds the origin gone
            on_node(Pushed(name, files[0].belongs.place, files[0].sha256, 9, 1))
        raise ConnectionLost("the origin is gone")

    monkeypatch.setattr(pull, "spread", spread)
    told, (lost, again) = handed_on(["a", "b", "c", "d"])
    assert (told, lost, list(again)) == (["a", "b", "c"], {}, ["d"])


def test_only_what_the_origin_has_wrong_comes_from_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Handed] = []

    async def spread(pool: Any, node: str, files: Sequence[Handed], *_: Any) -> dict[str, Any]:
        asked.extend(files)
        return {
            "a": relay.differs("a", "m.gguf", "origin", "0" * 64, "1" * 64),
            "b": relay.differs("b", "m.gguf", "origin", "0" * 64, ""),
            "c": ConnectionLost("c is gone"),
        }

    monkeypatch.setattr(pull, "spread", spread)
    _, (lost, again) = handed_on(["a", "b", "c"])
    assert (list(lost), list(again)) == (["c"], ["a", "b"])
    (file,) = asked
    assert (file.path, file.sha256, file.belongs.place) == ("/elsewhere/m.gguf", "0" * 64, PLACE)
    assert (file.belongs.note.source, file.belongs.note.revision) == ("hf:org/repo", "c0ffee")
