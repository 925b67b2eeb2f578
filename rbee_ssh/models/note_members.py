"""What a model's own header adds to its note: architecture, parameters, context, quant. Pure."""

from __future__ import annotations

from dataclasses import replace

from rbee_ssh.models.gguf import Gguf
from rbee_ssh.models.quants import quant_of
from rbee_ssh.models.store import Note, part_of


def described_note(header: Gguf, name: str, note: Note) -> Note:
    """The note with what the header tells.

    Args:
        name: of the file; it tells the quant more exactly, where it does.
    """
    tensors = None if part_of(name) else header.tensors
    return replace(
        note,
        architecture=header.architecture or None,
        parameters=tensors.parameters if tensors else None,
        context=header.number("context_length"),
        quant=note.quant or quant_of(name) or header.quant,
    )
