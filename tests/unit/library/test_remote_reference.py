"""What a reference means when nobody answers: to each node what that node says, and to no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rbee_ssh.errors import DownloadFailed
from rbee_ssh.inventory import Inventory
from rbee_ssh.library import remote_reference
from rbee_ssh.models.node_store import NodeStore, StoredFile, StoredModel
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.store import Note
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter

A, B = "a1" * 32, "b2" * 32
REF = HubRef("org", "repo")
SOURCE = "hf:org/repo/m.gguf"


def contents(node: str, place: str, note: Note) -> NodeStore:
    return NodeStore(node, "/store", (StoredModel(node, "/store", (StoredFile(place, 5, 1, note),)),))


SHELVES = [
    contents("has", f"hf/org/repo/{A[:12]}/m.gguf", Note(SOURCE, "c", A, 5)),
    contents("other", f"hf/org/repo/{B[:12]}/m.gguf", Note(SOURCE, "c", B, 5)),
    contents("told", f"local/{A[:12]}/m.gguf", Note(SOURCE, None, A, 5, told_by="has")),
    contents("taken-over", f"hf/org/repo/{A[:12]}/m.gguf", Note(SOURCE, A, B, 5)),
    contents("empty", "local/x/y.gguf", Note()),
]


def meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store_contents: Sequence[NodeStore]) -> Any:
    async def nobody(*_: Any) -> None:
        raise DownloadFailed("the hub does not answer")

    async def told(pool: Any, nodes: Sequence[str]) -> tuple[list[NodeStore], dict[str, Any]]:
        return list(store_contents), {}

    monkeypatch.setattr(remote_reference, "resolve", nobody)
    monkeypatch.setattr("rbee_ssh.library.stores.store_contents", told)
    pool = SimpleNamespace(
        inventory=Inventory(path=None, nodes={}, models={}),
        registry=Registry(tmp_path / "rbee/registry.json", reporter=SilentReporter()),
        reporter=SilentReporter(),
    )
    names = [one.node for one in store_contents]
    return asyncio.run(remote_reference.resolve_or_find(cast(Any, pool), REF, names))


def test_without_the_hub_each_node_speaks_for_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = meant(monkeypatch, tmp_path, SHELVES)
    assert {name: remote.files[0].sha256 for name, remote in found.items()} == {"has": A, "other": B}


def test_who_has_it_by_the_word_of_others_has_it_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        meant(monkeypatch, tmp_path, SHELVES[2:])
