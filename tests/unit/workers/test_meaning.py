"""What a reference means when nobody answers: to each node what that node says, and to no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rbee_ssh.errors import DownloadFailed
from rbee_ssh.inventory import Inventory
from rbee_ssh.models.refs import HubRef
from rbee_ssh.models.store import Note
from rbee_ssh.models.stored import Shelf, StoredFile, StoredModel
from rbee_ssh.registry import Registry
from rbee_ssh.story import Silent
from rbee_ssh.workers import meaning

A, B = "a1" * 32, "b2" * 32
REF = HubRef("org", "repo")
SOURCE = "hf:org/repo/m.gguf"


def shelf(node: str, place: str, note: Note) -> Shelf:
    return Shelf(node, "/store", (StoredModel(node, "/store", (StoredFile(place, 5, 1, note),)),))


SHELVES = [
    shelf("has", f"hf/org/repo/{A[:12]}/m.gguf", Note(SOURCE, "c", A, 5)),
    shelf("other", f"hf/org/repo/{B[:12]}/m.gguf", Note(SOURCE, "c", B, 5)),
    shelf("told", f"local/{A[:12]}/m.gguf", Note(SOURCE, None, A, 5, told_by="has")),
    shelf("taken-over", f"hf/org/repo/{A[:12]}/m.gguf", Note(SOURCE, A, B, 5)),
    shelf("empty", "local/x/y.gguf", Note()),
]


def meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shelves: Sequence[Shelf]) -> Any:
    async def nobody(*_: Any) -> None:
        raise DownloadFailed("the hub does not answer")

    async def told(fleet: Any, nodes: Sequence[str]) -> tuple[list[Shelf], dict[str, Any]]:
        return list(shelves), {}

    monkeypatch.setattr(meaning, "resolve", nobody)
    monkeypatch.setattr("rbee_ssh.workers.store.shelves", told)
    fleet = SimpleNamespace(
        inventory=Inventory(path=None, nodes={}, models={}),
        registry=Registry(tmp_path / "rbee/registry.json", story=Silent()),
        story=Silent(),
    )
    names = [one.node for one in shelves]
    return asyncio.run(meaning.resolve_or_find(cast(Any, fleet), REF, names))


def test_without_the_hub_each_node_speaks_for_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = meant(monkeypatch, tmp_path, SHELVES)
    assert {name: remote.files[0].sha256 for name, remote in found.items()} == {"has": A, "other": B}


def test_a_note_that_others_may_have_written_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = replace(SHELVES[0].models[0].files[0], open=True)
    opened = Shelf("has", "/store", (StoredModel("has", "/store", (file,)),))
    with pytest.raises(DownloadFailed):
        meant(monkeypatch, tmp_path, [opened])
    assert list(meant(monkeypatch, tmp_path, [opened, SHELVES[1]])) == ["other"]


def test_who_has_it_by_the_word_of_others_has_it_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        meant(monkeypatch, tmp_path, SHELVES[2:])
