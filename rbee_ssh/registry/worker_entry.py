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
    `private`: its socket lies where nobody else can ever have put one.
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
    private: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.node, self.id

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
_SHAPE = {known.name: _CHECKS[str(known.type)] for known in fields(WorkerEntry) if known.name != "private"}


def encode(entry: WorkerEntry) -> dict[str, Any]:
    """The entry as a JSON object."""
    document = {name: getattr(entry, name) for name in _SHAPE}
    return document | {"requests": list(entry.requests)}


def decode(document: Mapping[str, Any]) -> WorkerEntry | None:
    """The entry a document holds; None when a field is missing, unknown or of the wrong type.

    A newer version may write more fields under the same schema. Such an entry is not guessed at: the
    node tells it again. So `private` is not among them: it stands in a table of its own, and older versions
    read an entry as ever.
    """
    if document.keys() != _SHAPE.keys() or not all(check(document[name]) for name, check in _SHAPE.items()):
        return None
    return WorkerEntry(**{**document, "requests": tuple(document["requests"])})


def with_requests(entry: WorkerEntry, stored: WorkerEntry | None) -> WorkerEntry:
    """`entry` that also answers the requests which `stored` is remembered for, oldest first; not those of
    another node, which may have read the id somewhere."""
    before = stored.requests if stored is not None and stored.node == entry.node else ()
    known = dict.fromkeys((*before, *entry.requests))
    return replace(entry, requests=tuple(known)[-MAX_REQUESTS:])


Workers = Mapping[tuple[str, str], WorkerEntry]  # by node and id: what a node tells is of that node alone


def put(stored: Workers, entry: WorkerEntry) -> dict[tuple[str, str], WorkerEntry]:
    """`stored` with `entry` inserted, or in the place of the one of that node with its id."""
    return {**stored, entry.key: with_requests(entry, stored.get(entry.key))}


def synced(stored: Workers, node: str, told: Iterable[WorkerEntry]) -> dict[tuple[str, str], WorkerEntry]:
    """`stored` after `node` told all of its workers: what it did not name is gone."""
    elsewhere = {known.key: known for known in stored.values() if known.node != node}
    here = (replace(entry, node=node) for entry in told)
    return elsewhere | {entry.key: with_requests(entry, stored.get(entry.key)) for entry in here}


def warm(stored: Iterable[WorkerEntry], request: str) -> list[WorkerEntry]:
    """Workers which that request led to before and which have not ended, newest first."""
    usable = [entry for entry in stored if request in entry.requests and not entry.ended]
    return sorted(usable, key=lambda entry: entry.created, reverse=True)
