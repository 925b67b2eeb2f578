"""The file behind --json-schema is judged before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.cli.prompt import LARGEST, read_schema
from rbee_ssh.errors import UsageInvalid


def test_an_object_is_a_schema(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(b'\xef\xbb\xbf{"type": "object"}')
    assert read_schema(tmp_path / "s.json") == {"type": "object"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"type": }', "not JSON.*line 1, column 10"),
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"true", "not a JSON object"),
        (b'{"a": "\xff"}', "not UTF-8, at byte 7"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (LARGEST + 1), "larger than"),
    ],
)
def test_what_is_no_schema(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "s.json").write_bytes(data)
    with pytest.raises(UsageInvalid, match=complaint):
        read_schema(tmp_path / "s.json")


@pytest.mark.parametrize("name", [".", "missing.json", "a\x00b"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageInvalid, match="cannot be read"):
        read_schema(tmp_path / name)
