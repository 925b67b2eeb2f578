"""What this machine knows of files by their SHA-256, from the hub or of its own; not from nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rbee_ssh.models import store
from rbee_ssh.models.node_store import StoredFile, StoredModel
from rbee_ssh.models.remote import MEMOS, read_memo
from rbee_ssh.models.store import Note
from rbee_ssh.registry import Registry


@dataclass(frozen=True, slots=True)
class Belonging:
    """Where in a store a file belongs, and what its note says of where it came from."""

    place: str
    note: Note


def belongings(
    registry: Registry, node: str, files: Sequence[StoredFile], sums: Sequence[str]
) -> list[Belonging]:
    """Of the files of a model that a node has, which other nodes are to have.

    By their SHA-256 it is the hub's, or a model of this machine. If it is neither, the node alone says where
    it came from: so its note says, and its place is one where nobody looks for what has that name.

    Args:
        sums: their SHA-256, which are proven on arrival.
    """
    for memo in registry.facts_under(MEMOS):
        known = read_memo(memo)
        if known is not None and [file.sha256 for file in known[2]] == list(sums):
            source, revision, remote, _ = known
            return [Belonging(file.place, Note(source, revision)) for file in remote]
    told = [Note(file.note.source, told_by=node) for file in files]
    directory = sums[0]
    if all(_summed(registry, note.source) == sha256 for note, sha256 in zip(told, sums, strict=True)):
        told = [Note(note.source) for note in told]
    elif len(sums) > 1:
        # Not only the first part's: where that lies, its own other parts belong.
        directory = hashlib.sha256("".join(sums).encode()).hexdigest()
    places = [store.local_place(directory, file.name) for file in files]
    return [Belonging(place, note) for place, note in zip(places, told, strict=True)]


def sums_by_place(registry: Registry) -> dict[str, str]:
    """The SHA-256 of files by their place in a store, as the hub told them."""
    read = [read_memo(memo) for memo in registry.facts_under(MEMOS)]
    return {file.place: file.sha256 for known in reversed(read) if known for file in known[2] if file.sha256}


def expected(file: StoredFile, known: Mapping[str, str]) -> str | None:
    """The SHA-256 that a stored file has to have, or the beginning of it; None when nobody knows.

    Its note counts unless its place says something else.
    """
    if file.place in known:
        return known[file.place]
    begin, said = store.sum_of_place(file.place, file.note.revision), file.note.sha256
    return said if begin is None or (said or "").startswith(begin) else begin


def is_as_known(model: StoredModel, known: Mapping[str, str]) -> bool:
    """Whether the notes of a model say nothing else than what is expected of its files."""
    return all(file.note.sha256 is None or file.note.sha256 == expected(file, known) for file in model.files)


def _summed(registry: Registry, path: str) -> object:
    """The SHA-256 that a file of this machine had when it was last summed."""
    return (registry.facts(f"sha256:{path}") or {}).get("sha256")
