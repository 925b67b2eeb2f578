"""What a model's own header adds to its note: architecture, parameters, context, quant. Of a local file."""

from __future__ import annotations

from dataclasses import replace

from rbee_ssh.models.gguf import Gguf, Malformed, parse
from rbee_ssh.models.quants import quant_of
from rbee_ssh.models.store import Note, part_of

FIRST = 4 * 2**20  # bytes; most headers are whole by then
MOST = 64 * 2**20


def describe(path: str, size: int, name: str, note: Note) -> Note:
    """The note with what the header tells; as it is where there is no header that can be read.

    Args:
        path, size: of the file here; bytes.
        name: what it is called; it tells the quant where the header does not.
    """
    header = _header(path, size)
    if header is None:
        return note
    tensors = None if part_of(name) else header.tensors
    return replace(
        note,
        architecture=header.architecture or None,
        parameters=tensors.parameters if tensors else None,
        context=header.number("context_length"),
        quant=note.quant or quant_of(name),
    )


def _header(path: str, size: int) -> Gguf | None:
    found: Gguf | None = None
    wants = min(FIRST, size)
    try:
        with open(path, "rb") as file:
            data = b""
            while wants > len(data):
                data += file.read(wants - len(data))
                found = parse(data, size)
                if len(data) < wants:
                    break
                # More at once than it says: it knows only where the next piece would end.
                wants = min(max(found.wants, 2 * len(data)), size, MOST) if found.wants else 0
    except (OSError, Malformed):
        return None
    return found
