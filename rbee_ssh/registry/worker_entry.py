"""One remembered worker, its shape in the file, and what a change makes of the remembered ones. All pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

ENDED_STATES = frozenset({"stopped", "failed", "dead"})

# A worker that serves a hundred presets is remembered for the newest of them; the rest take the full path.
MAX_REQUESTS = 64


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """What this machine remembers of a worker. Paths are on the node; `socket` or `port` is set, not both.

    `requests` are fingerprints of requests that led to this worker, oldest first. `started` and `boot_id`
    are the tokens that tell a reused pid and a rebooted node. `lease` is in seconds, `created` a Unix time.
    """

    id: str
    node: str
    owner: str  # id of the control machine that started it
    match: str  # equal match: the same model served the same way
    requests: tuple[str, ...]
    model: str
    engine: str
    socket: str | None
    port: int | None
    api_key: str = field(repr=False)
    pid: int | None
    started: str
    boot_id: str
    directory: str
    state: str
    lease: float
    alias: str
    context: int | None
    parallel: int
    created: float

    @property
    def ended(self) -> bool:
        return self.state in ENDED_STATES


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "int": _whole,
    "int | None": lambda value: value is None or _whole(value),
    "float": _number,
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}
_SHAPE = {field.name: _CHECKS[str(field.type)] for field in fields(WorkerEntry)}


def encode(entry: WorkerEntry) -> dict[str, Any]:
    """The entry as a JSON object."""
    document = {name: getattr(entry, name) for name in _SHAPE}
    return document | {"requests": list(entry.requests)}


def decode(document: Mapping[str, Any]) -> WorkerEntry | None:
    """The entry a document holds; None when a field is missing, unknown or of the wrong type.

    A newer version may write more fields under the same schema. Such an entry is not guessed at: the
    node tells it again.
    """
    if document.keys() != _SHAPE.keys() or not all(check(document[name]) for name, check in _SHAPE.items()):
        return None
    return WorkerEntry(**{**document, "requests": tuple(document["requests"])})


def with_requests(entry: WorkerEntry, stored: WorkerEntry | None) -> WorkerEntry:
    """`entry` that also answers the requests which `stored` is remembered for, oldest first."""
    requests = dict.fromkeys((*(stored.requests if stored else ()), *entry.requests))
    return replace(entry, requests=tuple(requests)[-MAX_REQUESTS:])


def put(stored: Mapping[str, WorkerEntry], entry: WorkerEntry) -> dict[str, WorkerEntry]:
    """`stored` with `entry` inserted, or in the place of the one with its id."""
    return {**stored, entry.id: with_requests(entry, stored.get(entry.id))}


def synced(
    stored: Mapping[str, WorkerEntry], node: str, present: Iterable[WorkerEntry]
) -> dict[str, WorkerEntry]:
    """`stored` after `node` named all of its workers: what it did not name is gone."""
    elsewhere = {entry.id: entry for entry in stored.values() if entry.node != node}
    here = (with_requests(replace(entry, node=node), stored.get(entry.id)) for entry in present)
    return elsewhere | {entry.id: entry for entry in here}


def warm(stored: Iterable[WorkerEntry], request: str) -> list[WorkerEntry]:
    """Workers which that request led to before and which have not ended, newest first."""
    usable = [entry for entry in stored if request in entry.requests and not entry.ended]
    return sorted(usable, key=lambda entry: entry.created, reverse=True)
