"""The header of a GGUF file, read from the first bytes of it: what the model is, and how large its parts are.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Magic, version, counts; then keys with
values, then the tensors' names, shapes, types and places, then the tensors themselves, which nobody needs
here. The vocabulary is most of a header, several MB; it is passed over, and only its length is kept.

Versions 2 and 3, both byte orders. What a file says is a stranger's word: every count and length is checked
against what there is before it is believed, so that time and memory stay within a small multiple of the bytes
given.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_KEPT = 512  # keys; a model has some fifty
LONGEST_ARRAY = 1024  # that is kept: one value a layer
LONGEST_TEXT = 200
LONGEST_KEY = 65_535  # the format's own
MAX_HEADER = 32 * 2**20  # the largest vocabularies of today need 20; it is held in memory twice

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_TOKENS = "tokenizer.ggml.tokens"
_LAYER = re.compile(r"blk\.([0-9]{1,4})\.")

Value = bool | int | float | str | list[bool | int | float]


class Malformed(ValueError):
    """These bytes are not the header of a GGUF file that llama.cpp can load; the message says why."""


class CutShort(Malformed):
    """The header is whole, and the file ends before its tensors do."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """Sums over the tensors of this file. Bytes are those of the tensors, without the header.

    `layers` holds bytes by the number in `blk.N.`; `named` those of the single ones that matter for where a
    model goes: token_embd.weight and output.weight.
    """

    count: int
    parameters: int
    bytes: int
    layers: tuple[int, ...] = ()
    named: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gguf:
    """What the bytes told. `keys`: numbers, short texts and short lists of numbers; `vocabulary`: its length.

    `wants` is how many bytes from the start of the file would tell more, 0 when the header was whole. The
    keys of the architecture stand before the vocabulary in every file that llama.cpp's own tools write.
    """

    version: int
    keys: Mapping[str, Value]
    vocabulary: int | None = None
    tensors: Tensors | None = None
    wants: int = 0

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def text(self, key: str) -> str:
        value = self.keys.get(key)
        return value if isinstance(value, str) else ""

    def of_arch(self, key: str) -> Value | None:
        """A value of the architecture's own keys: "block_count" is llama.block_count in a Llama."""
        return self.keys.get(f"{self.architecture}.{key}")

    def number(self, key: str) -> int | None:
        """A whole number of the architecture that is no larger than any real one."""
        value = self.of_arch(key)
        return (
            value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else None
        )

    @property
    def quant(self) -> str | None:
        """The name of the file's type, such as Q4_K_M; None for one that is not known here."""
        value = self.keys.get("general.file_type")
        return FILE_TYPES.get(value & ~GUESSED) if isinstance(value, int) else None

    @property
    def tells(self) -> bool:
        """Whether it is enough for an estimate: the whole, or the architecture's own keys."""
        return not self.wants or (self.vocabulary is not None and bool(self.number("block_count")))

    @property
    def parts(self) -> int:
        """Of how many files this is the first; 1 for a whole model."""
        value = self.keys.get("split.count")
        return value if isinstance(value, int) and 1 < value < 10_000 else 1

    def as_json(self) -> dict[str, Any]:
        """What the registry keeps of it."""
        tensors = self.tensors
        return {
            "version": self.version,
            "keys": dict(self.keys),
            "vocabulary": self.vocabulary,
            "wants": self.wants,
            "tensors": tensors
            and {
                "count": tensors.count,
                "parameters": tensors.parameters,
                "bytes": tensors.bytes,
                "layers": list(tensors.layers),
                "named": dict(tensors.named),
            },
        }


def from_json(value: Mapping[str, Any]) -> Gguf | None:
    """The inverse of `Gguf.as_json`; None for what is not of its shape, such as an older version's."""
    try:
        told = value["tensors"]
        return Gguf(
            version=int(value["version"]),
            keys=dict(value["keys"]),
            vocabulary=value["vocabulary"],
            wants=int(value["wants"]),
            tensors=told
            and Tensors(
                told["count"], told["parameters"], told["bytes"], tuple(told["layers"]), dict(told["named"])
            ),
        )
    except (KeyError, TypeError, ValueError):
        return None


def parse(data: bytes, size: int) -> Gguf:
    """Read the first bytes of a file.

    Args:
        data: from the start of the file; a few KiB tell the architecture, all of the header the tensors.
        size: of the whole file, in bytes.

    Raises:
        Malformed: no GGUF, an old version, or a file that was cut short.
    """
    cursor = _Cursor(data[:MAX_HEADER], size)
    try:
        version = cursor.start()
    except _Short as short:
        return Gguf(0, {}, wants=short.at)
    keys: dict[str, Value] = {}
    vocabulary: int | None = None
    key = ""
    try:
        tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
        if key_count > MAX_KEYS or tensor_count > MAX_TENSORS:
            raise Malformed(f"it claims {key_count} keys and {tensor_count} tensors")
        for _ in range(key_count):
            key = cursor.text(LONGEST_KEY)
            value, length = cursor.value()
            if key == _TOKENS:
                vocabulary = length
            if value is not None and len(key) <= 128 and len(keys) < MAX_KEPT:
                keys[key] = value
        tensors = _tensors(cursor, tensor_count, keys)
    except _Short as short:
        if len(data) >= MAX_HEADER:
            raise Malformed(f"its header is longer than {MAX_HEADER} bytes") from None
        return Gguf(version, keys, vocabulary if key != _TOKENS else cursor.length, wants=short.at)
    return Gguf(version, keys, vocabulary, tensors)


class _Short(Exception):
    """The data ends here; `at` is where what is wanted next would end."""

    def __init__(self, at: int) -> None:
        self.at = at


class _Cursor:
    """Reads on through the bytes, and stops with _Short at their end, with Malformed at the file's."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self.file_size, self.at = data, size, 0
        self._order = "<"
        self.length: int | None = None  # of the array that is being read

    def start(self) -> int:
        """Magic and version; the version's byte order is the file's."""
        if self._data[:4] != b"GGUF"[: len(self._data)]:
            raise Malformed("it does not begin with GGUF")
        self.at = 4
        version: int = self.number("I")
        if version & 0xFFFF == 0:
            self._order, version = ">", int.from_bytes(self._data[4:8], "big")
        if version == 1:
            raise Malformed(
                "it is of GGUF version 1, which llama.cpp no longer reads: convert the model again"
            )
        if version not in (2, 3):
            raise Malformed(f"it is of GGUF version {version}, which is not known")
        return version

    def skip(self, count: int) -> int:
        """Go on by so many bytes; where they began."""
        begin, end = self.at, self.at + count
        if end > len(self._data):
            if end > self.file_size:
                raise Malformed(
                    f"it was cut short: its header goes on after its end at {self.file_size} bytes"
                )
            raise _Short(end)
        self.at = end
        return begin

    def number(self, code: str) -> Any:
        reader = struct.Struct(self._order + code)
        return reader.unpack_from(self._data, self.skip(reader.size))[0]

    def text(self, longest: int) -> str:
        length = self.number("Q")
        if length > longest:
            raise Malformed(f"a name of {length} bytes stands in its header")
        return self._data[self.skip(length) : self.at].decode("utf-8", "replace")

    def value(self) -> tuple[Value | None, int]:
        """A key's value, None when it is not worth keeping, and its length when it is an array."""
        self.length = None
        kind = self.number("I")
        if kind == _STRING:
            length = self.number("Q")
            begin = self.skip(length)
            return self._data[begin : begin + min(length, LONGEST_TEXT)].decode("utf-8", "replace"), 0
        if kind == _ARRAY:
            return self._array()
        return self.number(self._code(kind)), 0

    def _array(self) -> tuple[Value | None, int]:
        kind, count = self.number("I"), self.number("Q")
        self.length = count
        if kind == _STRING:
            self._strings(count)
            return None, count
        reader = struct.Struct(self._order + self._code(kind))
        begin = self.skip(reader.size * count)
        if count > LONGEST_ARRAY:
            return None, count
        return [each for (each,) in reader.iter_unpack(self._data[begin : self.at])], count

    def _strings(self, count: int) -> None:
        """Pass over strings. Each has a length of eight bytes, so the data bounds how many there can be."""
        if count * 8 > self.file_size - self.at:
            raise Malformed(f"a list of {count} texts does not fit into the file")
        read = struct.Struct(self._order + "Q").unpack_from
        data, at, end = self._data, self.at, len(self._data)
        for _ in range(count):
            if at + 8 > end:
                break
            at += 8 + read(data, at)[0]
            if at > end:
                break
        else:
            self.at = at
            return
        self.at = min(at, self.file_size + 1)
        self.skip(8 if at <= end else 0)
        raise _Short(max(at, end + 1))

    @staticmethod
    def _code(kind: int) -> str:
        if kind not in _SCALARS:
            raise Malformed(f"a value is of the unknown type {kind}")
        return _SCALARS[kind]


def _tensors(cursor: _Cursor, count: int, keys: Mapping[str, Value]) -> Tensors:
    """Read the tensors' places and sum them up.

    Raises:
        Malformed: a shape that is none, or a tensor that would lie behind the end of the file.
    """
    parameters = 0
    layers: dict[int, int] = {}
    named: dict[str, int] = {}
    total = last = 0
    for _ in range(count):
        name = cursor.text(1024)
        dimensions = cursor.number("I")
        if dimensions > 4:
            raise Malformed(f"a tensor has {dimensions} dimensions")
        elements = 1
        for _ in range(dimensions):
            elements *= cursor.number("Q")
        kind, offset = cursor.number("I"), cursor.number("Q")
        if elements >= 2**63:
            raise Malformed(f"a tensor has {elements} elements")
        size = tensor_bytes(kind, elements) or 0
        parameters += elements
        total += size
        last = max(last, offset + size)
        if found := _LAYER.match(name):
            layers[int(found[1])] = layers.get(int(found[1]), 0) + size
        elif name in ("token_embd.weight", "output.weight"):
            named[name] = size
    alignment = keys.get("general.alignment")
    if not isinstance(alignment, int) or isinstance(alignment, bool) or not 0 < alignment <= 2**20:
        alignment = 32
    begins = -(-cursor.at // alignment) * alignment
    if count and begins + last > cursor.file_size:
        raise CutShort(
            f"it was cut short: its tensors end at {begins + last} bytes, and it has {cursor.file_size}"
        )
    by_layer = tuple(layers.get(number, 0) for number in range(max(layers, default=-1) + 1))
    return Tensors(count, parameters, total, by_layer, named)


TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""Number → name, elements of a block, bytes of a block."""

FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}
GUESSED = 1024  # a bit of the file type: nobody wrote it, llama.cpp guessed


def tensor_bytes(kind: int, elements: int) -> int | None:
    """Bytes that a tensor takes; None for a type that is not known here."""
    if kind not in TENSOR_TYPES:
        return None
    _, block, size = TENSOR_TYPES[kind]
    return -(-elements // block) * size


def cache_row_bytes(name: str, elements: int) -> int | None:
    """Bytes of one row of a cache in the type that `--cache-type-k` calls `name`; None for an unknown one."""
    for known, block, size in TENSOR_TYPES.values():
        if known.lower() == name.lower():
            return -(-elements // block) * size
    return None
