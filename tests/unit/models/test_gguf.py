"""GGUF headers: read from real bytes, in pieces, and safe whatever they hold."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.models.gguf_files import string, typed, write

from rbee_ssh.models import gguf
from rbee_ssh.models.gguf import Gguf, Malformed, from_json, parse

KEYS = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 15,
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.attention.head_count": [8, 4],
    "llama.rope.freq_base": 10000.0,
    "llama.use": True,
    "tokenizer.ggml.tokens": ["a", "b", "ccc"],
    "tokenizer.ggml.scores": [0.5] * 2000,
}
TENSORS = (
    ("token_embd.weight", (64, 3), 0, 0),  # F32: 768 bytes
    ("blk.0.attn_q.weight", (64, 64), 8, 768),  # Q8_0: 64·64/32·34 = 4352
    ("blk.1.attn_q.weight", (256, 2), 12, 5120),  # Q4_K: 2·144
)
HEADER = write(KEYS, TENSORS)
SIZE = -(-len(HEADER) // 32) * 32 + 5120 + 288


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_header_of_either_version_and_byte_order(version: int, order: str) -> None:
    found = parse(write(KEYS, TENSORS, version=version, order=order), SIZE)
    assert found.version == version
    assert found.wants == 0
    assert found.architecture == "llama"
    assert found.number("block_count") == 2
    assert found.of_arch("attention.head_count") == [8, 4]
    assert found.keys["llama.use"] is True
    assert found.vocabulary == 3
    assert found.tensors is not None
    assert found.tensors.parameters == 64 * 3 + 64 * 64 + 512
    assert found.tensors.bytes == 768 + 4352 + 288
    assert found.tensors.layers == (4352, 288)
    assert found.tensors.named == {"token_embd.weight": 768}


def test_the_vocabulary_is_not_kept() -> None:
    found = parse(HEADER, SIZE)
    assert "tokenizer.ggml.tokens" not in found.keys
    assert "tokenizer.ggml.scores" not in found.keys


def test_a_piece_tells_what_it_holds_and_how_much_more_is_wanted() -> None:
    place = HEADER.index(b"tokenizer.ggml.tokens")
    found = parse(HEADER[: place + 40], SIZE)
    assert found.number("context_length") == 4096
    assert found.vocabulary == 3
    assert found.tells
    assert not parse(HEADER[:place], SIZE).tells
    assert found.tensors is None
    assert place + 40 < found.wants <= len(HEADER)


def test_reading_on_as_asked_comes_to_the_whole() -> None:
    have, rounds = 0, 0
    while True:
        found = parse(HEADER[:have], SIZE)
        if not found.wants:
            break
        assert found.wants > have
        have, rounds = found.wants, rounds + 1
    assert found == parse(HEADER, SIZE)
    assert rounds < 100


def test_what_the_registry_keeps_comes_back() -> None:
    found = parse(HEADER, SIZE)
    assert from_json(json.loads(json.dumps(found.as_json()))) == found
    assert from_json({"version": 1}) is None
    assert from_json({**found.as_json(), "tensors": 7}) is None


def test_the_test_model(model_path: Path) -> None:
    with model_path.open("rb") as file:
        found = parse(file.read(4 * 2**20), model_path.stat().st_size)
    assert found.architecture == "llama"
    assert found.vocabulary == 49152
    assert found.tensors is not None
    assert found.tensors.parameters == 134_515_008
    assert len(found.tensors.layers) == 30


@pytest.mark.parametrize(
    ("data", "size", "problem"),
    [
        (b"GGML" + b"\0" * 40, 44, "does not begin with GGUF"),
        (b"GG", 2, "cut short"),
        (b"GGUF" + struct.pack("<I", 1) + b"\0" * 40, 48, "version 1"),
        (b"GGUF" + struct.pack("<I", 9) + b"\0" * 40, 48, "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), 4096, "claims 1099511627776 keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), 4096, "1099511627776 tensors"),
        (write({"a": 1})[:-8] + struct.pack("<I", 77), 4096, "unknown type 77"),
        (HEADER, SIZE - 1, "cut short: its tensors end at"),
        (HEADER[:200], 200, "cut short: its header goes on"),
        (write({}, [("x", (1,) * 5, 0, 0)]), 4096, "5 dimensions"),
        (write({}, [("x", (2**62, 4), 0, 0)]), 4096, "elements"),
    ],
)
def test_what_is_no_header_is_said(data: bytes, size: int, problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        parse(data, size)


def test_an_array_of_arrays_is_refused() -> None:
    with pytest.raises(Malformed, match="unknown type 9"):
        parse(
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("a") + struct.pack("<IIQ", 9, 9, 1) + b"\0" * 99,
            999,
        )


def test_a_header_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MAX_HEADER", 64)
    with pytest.raises(Malformed, match="longer than 64 bytes"):
        parse(HEADER, SIZE)


@given(st.binary(max_size=400), st.integers(0, 2**62))
def test_any_bytes_at_all(data: bytes, size: int) -> None:
    _read(b"GGUF\x03\0\0\0" + data, size)


@given(st.data())
def test_a_header_with_bytes_changed(data: st.DataObject) -> None:
    changed = bytearray(HEADER)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    _read(
        bytes(changed[: data.draw(st.integers(0, len(changed)))]), data.draw(st.sampled_from([SIZE, 2**50]))
    )


def _read(data: bytes, size: int) -> None:
    """Either a header or a refusal; what it wants is more than it had; what it keeps is small."""
    try:
        found = parse(data, size)
    except Malformed:
        return
    assert isinstance(found, Gguf)
    assert found.wants == 0 or found.wants > len(data)
    assert len(json.dumps(found.as_json())) < 100 * len(data) + 1000


def test_a_claim_of_many_texts_takes_no_time() -> None:
    begin = time.process_time()
    claim = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("t") + struct.pack("<IIQ", 9, 8, 2**60)
    with pytest.raises(Malformed, match="does not fit"):
        parse(claim + b"\0" * 1000, 10**12)
    assert parse(write({"t": ["x"] * 200_000}), 10**9).wants == 0
    assert time.process_time() - begin < 5


def test_typed_lists_of_nothing() -> None:
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("general.empty") + typed([])
    assert parse(data, 999).keys == {"general.empty": []}
