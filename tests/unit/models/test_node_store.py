"""What nodes say of their stores, and which model a user means by a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import ModelAmbiguous, ModelNotFound, ModelRefInvalid
from rbee_ssh.inventory import Inventory, ModelPreset
from rbee_ssh.models.node_store import NodeStore, StoredModel, parse
from rbee_ssh.models.selection import find
from rbee_ssh.models.store import Note

A, B, C = ("a1b2c3d4e5f6" + "0" * 52, "a1b2ffffffff" + "1" * 52, "c3" * 32)


def line(place: str, size: int = 100, **note: object) -> list[str]:
    told = Note(**{"size": size, "sha256": A, "last_used": 50, "verified": 40, **note})  # type: ignore[arg-type]
    return [f"file\t{size}\t30\t{place}", f"note\t{told.to_json()}"]


def contents(*lines: list[str], node: str = "n") -> NodeStore:
    every = [one for few in lines for one in few]
    return parse(node, ["store\t/home/u/models", *every, "store end\t"])


HUB = f"hf/org/tiny-GGUF/{A[:12]}/tiny-Q4_K_M.gguf"
HUB8 = f"hf/org/tiny-GGUF/{B[:12]}/tiny-Q8_0.gguf"
URL = f"url/example.org/{C[:12]}/other.gguf"


def a_store(node: str = "n") -> list[StoredModel]:
    return list(
        contents(
            line(HUB, source="hf:org/tiny-GGUF/tiny-Q4_K_M.gguf", revision="abcdef"),
            line(HUB8, sha256=B),
            line(URL, sha256=C, source="https://example.org/m/other.gguf"),
            line(f"local/{A[:12]}/mine.gguf", source="/home/me/mine.gguf"),
            node=node,
        ).models
    )


def inventory(**presets: str) -> Inventory:
    return Inventory(
        path=None, nodes={}, models={name: ModelPreset(name, text) for name, text in presets.items()}
    )


MEANINGS = {
    "tiny-Q8_0": HUB8,
    "tiny-Q8_0.gguf": HUB8,
    "a1b2ff": HUB8,
    "hf:org/tiny-GGUF:q8_0": HUB8,
    "hf:org/tiny-GGUF/tiny-Q4_K_M.gguf": HUB,
    "hf:org/tiny-GGUF:Q4_K_M@abcd": HUB,
    "https://example.org/m/other.gguf": URL,
    f"https://example.org/m/other.gguf#sha256={C}": URL,
    "/home/u/models/" + HUB8: HUB8,
    "file:///home/u/models/" + URL: URL,
    URL: URL,
    "preset": URL,
    "./somewhere/mine.gguf": f"local/{A[:12]}/mine.gguf",
}


@pytest.mark.parametrize(("text", "place"), MEANINGS.items())
def test_a_word_means_one_model(text: str, place: str) -> None:
    known = inventory(preset="https://example.org/m/other.gguf")
    assert [model.place for model in find(text, a_store(), known)] == [place]


def test_equal_bytes_are_one_model_wherever_they_are() -> None:
    every = [*a_store("n"), *a_store("m")]
    found = find(A[:8], every, inventory())
    assert {(model.node, model.name) for model in found} == {
        (node, name) for node in "nm" for name in ("tiny-Q4_K_M.gguf", "mine.gguf")
    }


@pytest.mark.parametrize("text", ["a1b2", "hf:org/tiny-GGUF"])
def test_what_means_several_models_is_told_with_their_ids(text: str) -> None:
    with pytest.raises(ModelAmbiguous, match="tiny-Q8_0") as refusal:
        find(text, a_store(), inventory())
    assert refusal.value.details["ids"] == [A[:12], B[:12]]


@pytest.mark.parametrize(
    "text",
    ["tiny-Q5_0", "dddd", "hf:org/other", "hf:org/tiny-GGUF:Q2_K", "hf:org/tiny-GGUF@other", "./x.gguf"],
)
def test_what_no_node_has_is_said_with_what_is_near(text: str) -> None:
    with pytest.raises(ModelNotFound) as refusal:
        find(text, a_store(), inventory())
    assert refusal.value.hint == "rbee models list"
    if text == "tiny-Q5_0":
        assert "did you mean" in refusal.value.message


def test_the_signature_of_a_url_is_not_repeated() -> None:
    with pytest.raises(ModelNotFound) as refusal:
        find("https://example.org/x.gguf?X-Amz-Signature=hunter2", a_store(), inventory())
    assert "hunter2" not in str(refusal.value.as_json())


def test_what_is_no_reference_is_refused() -> None:
    with pytest.raises(ModelRefInvalid):
        find("http://example.org/x.gguf", a_store(), inventory())


def test_the_parts_of_a_split_model_are_one() -> None:
    place = f"hf/o/r/{A[:12]}/big-0000%d-of-00002.gguf"
    (model,) = contents(line(place % 2, 50, last_used=70), line(place % 1, 100)).models
    assert (model.name, model.size, model.whole, model.id) == ("big.gguf", 150, True, A[:12])
    assert model.path.endswith("big-00001-of-00002.gguf")
    assert (model.last_used, model.verified) == (70, 40)
    (half,) = contents(line(place % 2)).models
    assert (half.whole, half.verified) == (False, None)
    (short,) = contents([f"file\t99\t30\t{place % 1}", f"note\t{Note(size=100).to_json()}"]).models
    assert not short.whole


@pytest.mark.parametrize(
    "place",
    [
        "local/x/../../../etc/passwd.gguf",
        "/etc/passwd.gguf",
        "local/x/y/z.gguf",
        "elsewhere/x/y.gguf",
        "local/x/y.bin",
        "local//y.gguf",
        "local/x/\x1b[31my.gguf",
        "",
    ],
)
def test_a_place_that_is_none_is_passed_over(place: str) -> None:
    assert contents(line(place)).models == ()


@given(st.lists(st.text(max_size=60)))
def test_any_output_is_read(lines: list[str]) -> None:
    parse("n", ["store\t/x", *lines])
    parse("n", [f"{key}\t{text}" for text in lines for key in ("file", "note", "part", "store")])


def test_a_model_without_a_note_was_used_when_it_came() -> None:
    (model,) = contents([f"file\t5\t30\tlocal/{A[:12]}/x.gguf"]).models
    assert (model.last_used, model.verified, model.sha256, model.whole) == (30, None, None, True)


def test_partial_files_are_told_apart() -> None:
    found = contents(["part\t5\t30\t.incoming/abc.part", "part\t5\t30\t../x"], line(URL))
    assert [part.place for part in found.parts] == [".incoming/abc.part"]
    assert len(found.models) == 1
    assert Path(found.store) == Path("/home/u/models")
