"""Paths in the node's store and the notes in it: names and notes are strangers' words."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.models import store
from rbee_ssh.models.store import Note, Part, part_of, read_note, safe_name, sum_of_place

SHA = "0123456789abcdef" * 4

NAMES = {
    "tiny.gguf": "tiny.gguf",
    "sub/dir/Model-Q4_K_M.gguf": "Model-Q4_K_M.gguf",
    "my model; $(rm) 'ü'.gguf": "my model; $(rm) 'ü'.gguf",
    "UPPER.GGUF": "UPPER.gguf",
    "model.bin": "model.bin.gguf",
    "x.gguf.json": "x.gguf.json.gguf",
    "x.gguf.part": "x.gguf.part.gguf",
    "-rf.gguf": "_-rf.gguf",
    ".hidden.gguf": "_.hidden.gguf",
    "..": "_...gguf",
    ".gguf": "_.gguf",
    "": "_.gguf",
    "a/../..": "_...gguf",
    "..\\..\\evil.gguf": "evil.gguf",
    "~root.gguf": "_~root.gguf",
    "two\nlines\x1b[31m.gguf": "two_lines_[31m.gguf",
    "left\u202eright\udcff.gguf": "left_right_.gguf",
}


@pytest.mark.parametrize(("given", "name"), NAMES.items())
def test_a_name_stays_readable_and_becomes_harmless(given: str, name: str) -> None:
    assert safe_name(given) == name


@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_any_text_gives_one_path_component(text: str) -> None:
    name = safe_name(text)
    assert len(name.encode()) <= store.MAX_NAME
    assert name.endswith(".gguf")
    assert name[0] not in ".-~ "
    assert not set(name) & set("/\\\0\n")
    assert all(unicodedata.category(c)[0] != "C" for c in name)
    assert safe_name(name) == name


def test_what_is_too_long_keeps_its_end() -> None:
    name = safe_name("ü" * 300 + "-Q8_0-00002-of-00003.gguf")
    assert name.endswith("ü-Q8_0-00002-of-00003.gguf")
    assert 196 < len(name.encode()) <= 200


def test_the_layout() -> None:
    assert store.local_place(SHA, "/home/a/tiny.gguf") == "local/0123456789ab/tiny.gguf"
    assert store.hub_place("org", "A.repo", SHA, "sub/x.gguf") == "hf/org/A.repo/0123456789ab/x.gguf"
    assert store.url_place("https://Host.org:8443/a.gguf?t=1", SHA, "a.gguf") == (
        "url/host.org_8443/0123456789ab/a.gguf"
    )
    assert store.in_store("~/models/", "local/x/y.gguf") == "~/models/local/x/y.gguf"


def test_a_url_without_a_checksum_has_one_place_whatever_its_signature() -> None:
    places = {store.url_place(f"https://h/a.gguf{query}", None, "a.gguf") for query in ("", "?x=1", "#y")}
    assert len(places) == 1
    assert places != {store.url_place("https://h/b.gguf", None, "a.gguf")}


@pytest.mark.parametrize("word", ["..", ".", "", "-x", "../../etc", "a/b", "[::1]", "x\n"])
def test_no_directory_leads_out_of_the_store(word: str) -> None:
    for place in (store.hub_place(word, word, SHA, "n.gguf"), store.url_place(f"https://{word}/", SHA, "n")):
        parts = place.split("/")
        assert len(parts) == (5 if parts[0] == "hf" else 4)
        assert all(part and part[0] not in ".-" and part.isprintable() for part in parts)


@pytest.mark.parametrize(
    ("place", "revision", "begin"),
    [
        (f"local/{SHA[:12]}/a.gguf", None, SHA[:12]),
        (f"local/{SHA[:12]}/a.gguf", SHA[:40], SHA[:12]),
        (f"hf/o/r/{SHA[:12]}/a.gguf", "c0ffee" + "0" * 34, SHA[:12]),
        (f"hf/o/r/{SHA[:12]}/a.gguf", SHA, SHA[:12]),  # no commit has 64 digits
        (f"hf/o/r/{SHA[:12]}/a.gguf", SHA[:40], None),  # a repository that tells none
        (f"hf/o/r/{SHA[:12]}/a-00002-of-00002.gguf", None, None),
        (f"url/h/{SHA[:12]}/a.gguf", None, None),
        ("local/x/a.gguf", None, None),
    ],
)
def test_a_place_tells_the_beginning_of_a_sum(place: str, revision: str | None, begin: str | None) -> None:
    assert sum_of_place(place, revision) == begin


def test_the_parts_of_a_split_model() -> None:
    assert part_of("a-00002-of-00003.gguf") == Part("a", 2, 3)
    assert Part("a", 2, 3).names() == tuple(f"a-0000{n}-of-00003.gguf" for n in (1, 2, 3))
    for name in ("a.gguf", "a-00004-of-00003.gguf", "a-00000-of-00003.gguf", "-00001-of-00002.gguf"):
        assert part_of(name) is None


def test_a_note_is_one_line_and_reads_back() -> None:
    note = Note("hf:org/repo/ü.gguf", "abc", SHA, 5, 6, 7, 8, "Q4_K_M", "llama", 135_000_000, 8192, "gpu1")
    assert read_note(note.to_json()) == note
    assert read_note(note.to_json().encode()) == note
    assert note.to_json().isascii()
    assert "\n" not in note.to_json()
    assert read_note(Note().to_json()) == Note()


HOSTILE = [
    b"",
    b"\xff\xfe\x00",
    b"[]",
    b"null",
    b"{",
    b"[" * 15_000,
    b'{"size":' + b"9" * 10_000 + b"}",
    b'{"size":NaN}',
    b'{"size":1e9,"fetched":-1,"last_used":true,"verified":"7","sha256":"../../x","source":5,"quant":[]}',
    json.dumps({"sha256": SHA.upper()}).encode(),
    b'{"source":"' + b"x" * store.MAX_NOTE + b'"}',
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_note_that_is_none_says_nothing(data: bytes) -> None:
    assert read_note(data) == Note()


def test_a_notes_texts_are_cleaned_and_cut() -> None:
    note = read_note(json.dumps({"source": "a\x1b[31mb\u202e" + "c" * 5000, "quant": "\x07", "size": 3}))
    assert note.source.startswith("abc")
    assert len(note.source) == 500
    assert (note.quant, note.size) == (None, 3)


def test_a_part_keeps_its_ending() -> None:
    part = part_of("S-00001-of-00002.GGUF")
    assert part is not None and part.names() == ("S-00001-of-00002.GGUF", "S-00002-of-00002.GGUF")
