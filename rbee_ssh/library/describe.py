"""`models list`: what the stores hold, with what the models' headers tell.

Of a model that its node has fetched nobody has read the header. The first list does, and notes it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rbee_ssh.errors import ModelInvalid, RbeeError
from rbee_ssh.library import stores
from rbee_ssh.models import header, receiver
from rbee_ssh.models.node_store import NodeStore, StoredModel
from rbee_ssh.models.note_members import described_note
from rbee_ssh.models.receiver import STORE
from rbee_ssh.models.store import Note, read_note
from rbee_ssh.node.scripts import LIB, OWNERS, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.pool import ConnectionPool

DESCRIBE = compose(LIB, OWNERS, STORE, Path(receiver.__file__).with_name("note_members.sh"))
PATIENCE = 20.0  # seconds for the headers of one node; what is left is for the next list
_MEMBERS = ("architecture", "parameters", "context", "quant")


async def store_contents(
    pool: ConnectionPool, nodes: Sequence[str]
) -> tuple[list[NodeStore], stores.Unreachable]:
    """As `stores.store_contents`, each model described as far as its header tells."""
    found, unreachable = await stores.store_contents(pool, nodes)
    return list(await asyncio.gather(*(_described(pool, contents) for contents in found))), unreachable


async def _described(pool: ConnectionPool, contents: NodeStore) -> NodeStore:
    notes: dict[str, Note] = {}
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for model in filter(_undescribed, contents.models):
                    pool.reporter.detail(f"reading the header of {model.name} on {contents.node}")
                    with contextlib.suppress(ModelInvalid):
                        notes[model.place] = await _read(pool, model)
        notes = {place: note for place, note in notes.items() if note.architecture is not None}
        if notes:
            args = [word for place, note in notes.items() for word in (place, _members(note))]
            await script.run(await pool.connect(contents.node), DESCRIBE, [contents.store, *args])
    except RbeeError as error:  # the list is one without it
        pool.reporter.detail(error.message)
    return replace(contents, models=tuple(_with(model, notes.get(model.place)) for model in contents.models))


def _undescribed(model: StoredModel) -> bool:
    return model.whole and model.note.architecture is None and bool(model.note.source)


async def _read(pool: ConnectionPool, model: StoredModel) -> Note:
    first = model.files[0]
    found = await header.read_on_node(await pool.connect(model.node), model.path, first.size)
    return read_note(
        described_note(found, first.name, model.note).to_json()
    )  # a stranger's words, as any note's


def _members(note: Note) -> str:
    """What note_members.sh puts between the braces of the note that is there."""
    told = {key: getattr(note, key) for key in _MEMBERS}
    known = {key: value for key, value in told.items() if value is not None}
    return json.dumps(known, separators=(",", ":"))[1:-1]


def _with(model: StoredModel, note: Note | None) -> StoredModel:
    if note is None:
        return model
    return replace(model, files=(replace(model.files[0], note=note), *model.files[1:]))
