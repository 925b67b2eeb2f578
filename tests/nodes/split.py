"""A model in two files, as llama.cpp's gguf-split makes it, out of a real one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

ALIGNMENT = 32
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class _Tensor:
    head: bytes  # name, shape and type as they stand in the file
    begin: int
    end: int


def split(model: Path, directory: Path, name: str = "tiny") -> list[Path]:
    """NAME-00001-of-00002.gguf, which has all keys, and the second file, each with half of the tensors."""
    data = model.read_bytes()
    count, keys = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(keys):
        at = _after_value(data, _after_string(data, at))
    metadata, tensors = data[24:at], _tensors(data, at, count)
    paths = []
    for number, mine in enumerate((tensors[: count // 2], tensors[count // 2 :])):
        paths.append(directory / f"{name}-0000{number + 1}-of-00002.gguf")
        said = [
            ("split.no", 2, "H", number),
            ("split.count", 2, "H", 2),
            ("split.tensors.count", 5, "i", count),
        ]
        own = b"".join(
            _string(key) + struct.pack("<I" + code, kind, value) for key, kind, code, value in said
        )
        paths[-1].write_bytes(
            _file(data, mine, (metadata if number == 0 else b"") + own, 3 + keys * (not number))
        )
    return paths


def _file(data: bytes, tensors: list[_Tensor], metadata: bytes, keys: int) -> bytes:
    infos, body = b"", b""
    for one in tensors:
        infos += one.head + struct.pack("<Q", len(body))
        body += _padded(data[one.begin : one.end])
    return _padded(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), keys) + metadata + infos) + body


def _tensors(data: bytes, at: int, count: int) -> list[_Tensor]:
    found = []
    for _ in range(count):
        begin, at = at, _after_string(data, at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 4
        found.append((data[begin:at], struct.unpack_from("<Q", data, at)[0]))
        at += 8
    base = -(-at // ALIGNMENT) * ALIGNMENT
    ends = [offset for _, offset in found[1:]] + [len(data) - base]
    return [_Tensor(head, base + offset, base + end) for (head, offset), end in zip(found, ends, strict=True)]


def _after_string(data: bytes, at: int) -> int:
    return at + 8 + int(struct.unpack_from("<Q", data, at)[0])


def _after_value(data: bytes, at: int) -> int:
    kind = struct.unpack_from("<I", data, at)[0]
    at += 4
    if kind == _STRING:
        return _after_string(data, at)
    if kind != _ARRAY:
        return at + _SIZES[kind]
    inner, length = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != _STRING:
        return at + _SIZES[inner] * int(length)
    for _ in range(length):
        at = _after_string(data, at)
    return at


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
