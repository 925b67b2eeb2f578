"""A model handed on to several nodes: who has it is not called failed when the origin is lost meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from rbee_ssh.errors import ConnectionLost
from rbee_ssh.library import pull
from rbee_ssh.library.pull import Pulled
from rbee_ssh.library.push import Pushed
from rbee_ssh.models.node_store import NodeStore, StoredFile, StoredModel
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.remote import Remote, RemoteFile

PLACE = "hf/org/repo/0123/m.gguf"
REMOTE = Remote(HubRef("org", "repo"), "hf:org/repo", "c0ffee", (RemoteFile("m.gguf", PLACE, 9, "0" * 64),))
MODEL = StoredModel("origin", "/store", (StoredFile(PLACE, 9, 1),))


def test_a_lost_origin_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def store_contents(pool: Any, nodes: Sequence[str]) -> tuple[list[NodeStore], dict[str, Any]]:
        return [NodeStore("origin", "/store", (MODEL,))], {}

    async def spread(
        pool: Any, model: StoredModel, nodes: Sequence[str], on_node: Callable[[Pushed], None]
    ) -> dict[str, Any]:
        for name in nodes[:3]:  # the second batch of three finds the origin gone
            on_node(Pushed(name, MODEL.path, "0" * 64, 9, 1))
        raise ConnectionLost("the origin is gone")

    monkeypatch.setattr("rbee_ssh.library.stores.store_contents", store_contents)
    monkeypatch.setattr(pull, "spread", spread)
    told: list[Pulled] = []
    handing = pull._hand_on(
        cast(Any, None), REMOTE, "origin", MODEL.path, ["origin", "a", "b", "c", "d"], told.append
    )
    failed = asyncio.run(handing)
    assert [one.node for one in told] == ["a", "b", "c"]
    assert list(failed) == ["d"]
