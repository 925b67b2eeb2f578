"""GGUF headers for tests, written from values."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rbee_ssh.models.gguf import Gguf, parse

HEADERS = Path(__file__).with_name("headers")

Tensor = tuple[str, Sequence[int], int, int]  # name, shape, type, offset


def write(
    keys: Mapping[str, Any], tensors: Sequence[Tensor] = (), *, version: int = 3, order: str = "<"
) -> bytes:
    """A header. Whole numbers are written as u32 (u64 when they are larger), lists by their first element."""
    text = b"GGUF" + struct.pack(order + "IQQ", version, len(tensors), len(keys))
    for key, value in keys.items():
        text += string(key, order) + typed(value, order)
    for name, shape, kind, offset in tensors:
        text += string(name, order) + struct.pack(f"{order}I{len(shape)}Q", len(shape), *shape)
        text += struct.pack(order + "IQ", kind, offset)
    return text


def string(text: str, order: str = "<") -> bytes:
    data = text.encode()
    return struct.pack(order + "Q", len(data)) + data


def typed(value: Any, order: str = "<") -> bytes:
    """A value with its type before it."""
    if isinstance(value, list):
        inner = [typed(each, order) for each in value] or [typed(0, order)]
        kind = inner[0][:4]
        return (
            struct.pack(order + "I", 9)
            + kind
            + struct.pack(order + "Q", len(value))
            + b"".join(each[4:] for each in inner[: len(value)])
        )
    if isinstance(value, bool):
        return struct.pack(order + "I?", 7, value)
    if isinstance(value, str):
        return struct.pack(order + "I", 8) + string(value, order)
    if isinstance(value, float):
        return struct.pack(order + "If", 6, value)
    return struct.pack(order + "IQ", 10, value) if value >= 2**32 else struct.pack(order + "II", 4, value)


@functools.cache
def published(name: str) -> tuple[Gguf, int]:
    """The header of a public model as its configuration gives it (headers/NAME.json), and its size."""
    told = json.loads((HEADERS / f"{name}.json").read_text())
    arch = told["architecture"]
    keys = {"general.architecture": arch, "general.name": name}
    keys |= {f"{arch}.{key}": value for key, value in told["keys"].items()}
    header = write(keys | {"tokenizer.ggml.tokens": ["t"] * told["vocabulary"]})
    return parse(header, told["bytes"]), told["bytes"]
