"""What a file of a node is called elsewhere, and what a stored file is compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.models.known_sums import belongings, expected, sums_by_place
from rbee_ssh.models.node_store import StoredFile
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.remote import Remote, RemoteFile, memo_key
from rbee_ssh.models.store import Note
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter

A, B = "a1" * 32, "b2" * 32
PLACE = f"hf/org/repo/{A[:12]}/m.gguf"
TOLD = Note("hf:org/repo/m.gguf", "f" * 40, A, 5, 6, 7, 8, "Q4_K_M", "llama", 1, 2)
PARTS = [f"m-0000{number}-of-00002.gguf" for number in (1, 2)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "rbee/registry.json", reporter=SilentReporter())


def remember(registry: Registry, *files: RemoteFile) -> None:
    ref = HubRef("org", "repo")
    registry.put_facts(memo_key(ref), Remote(ref, "hf:org/repo/m.gguf", "c" * 40, files).memo())


def stored(place: str = PLACE, note: Note = TOLD) -> StoredFile:
    return StoredFile(place, 5, 30, note)


def test_what_only_a_node_says_gives_no_place_of_the_hub(registry: Registry) -> None:
    (one,) = belongings(registry, "n", [stored()], [B])
    assert (one.place, one.note) == (f"local/{B[:12]}/m.gguf", Note(TOLD.source, told_by="n"))
    remember(registry, RemoteFile("m.gguf", PLACE, 5, A))
    assert belongings(registry, "n", [stored()], [B]) == [one], "another sum than the hub's"


def test_what_the_hub_told_is_its_own_wherever_it_lies(registry: Registry) -> None:
    remember(registry, RemoteFile("m.gguf", PLACE, 5, A))
    (one,) = belongings(registry, "n", [stored("local/x/other.gguf", Note("/tmp/x", told_by="m"))], [A])
    assert (one.place, one.note) == (PLACE, Note("hf:org/repo/m.gguf", "c" * 40))


def test_what_this_machine_has_summed_is_known(registry: Registry) -> None:
    file = stored(f"local/{A[:12]}/m.gguf", Note("/home/me/m.gguf"))
    registry.put_facts("sha256:/home/me/m.gguf", {"size": 5, "mtime": 1, "sha256": A})
    (one,) = belongings(registry, "n", [file], [A])
    assert (one.place, one.note) == (f"local/{A[:12]}/m.gguf", Note("/home/me/m.gguf"))
    (other,) = belongings(registry, "n", [file], [B])
    assert other.note.told_by == "n"


def test_the_parts_of_a_model_are_known_together(registry: Registry) -> None:
    """A genuine first part gives the others no place beside what is."""
    files = [stored(f"local/{A[:12]}/{name}", Note(f"/home/me/{name}")) for name in PARTS]
    registry.put_facts(f"sha256:/home/me/{PARTS[0]}", {"size": 5, "mtime": 1, "sha256": A})
    told = belongings(registry, "n", files, [A, B])
    assert {one.note.told_by for one in told} == {"n"}
    assert len({one.place.split("/")[1] for one in told}) == 1
    assert told[0].place.split("/")[1] != A[:12]
    assert told[0].place != belongings(registry, "n", files, [A, A])[0].place
    registry.put_facts(f"sha256:/home/me/{PARTS[1]}", {"size": 5, "mtime": 1, "sha256": B})
    assert [one.place for one in belongings(registry, "n", files, [A, B])] == [file.place for file in files]
    remember(
        registry, *(RemoteFile(n, f"hf/o/r/{A[:12]}/{n}", 5, s) for n, s in zip(PARTS, (A, B), strict=True))
    )
    assert belongings(registry, "n", files, [A, B])[1].place == f"hf/o/r/{A[:12]}/{PARTS[1]}"
    assert belongings(registry, "n", files, [A, A])[1].note.told_by == "n"


def test_a_file_is_compared_with_what_is_known_here_first(registry: Registry) -> None:
    remember(registry, RemoteFile("m.gguf", PLACE, 5, A), RemoteFile("n.gguf", "hf/o/r/x/n.gguf", 5, None))
    known = sums_by_place(registry)
    assert known == {PLACE: A}
    lie = Note(sha256=B, revision=A)
    assert expected(stored(note=lie), known) == A
    assert expected(stored(note=lie), {}) == A[:12], "by its place"
    assert expected(stored(note=Note(sha256=A)), {}) == A
    assert expected(stored(note=Note()), {}) == A[:12]
    assert expected(stored(f"url/h/{A[:12]}/m.gguf", lie), {}) == B
    assert expected(stored(f"url/h/{A[:12]}/m.gguf", Note()), {}) is None
