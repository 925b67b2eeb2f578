"""What a node said of its store (list.sh), as models. All of it is data from a stranger. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rbee_ssh.models.quants import quant_of
from rbee_ssh.models.store import Note, Part, part_of, read_note, shown_name
from rbee_ssh.node.untrusted_text import clean, integer, plain

DEPTH = {"local": 3, "hf": 5, "url": 4}  # parts of a place


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file: its place in the store, bytes, mtime in Unix seconds, its note (empty when it has none)."""

    place: str
    size: int
    mtime: int
    note: Note = field(default_factory=Note)

    @property
    def name(self) -> str:
        return self.place.rpartition("/")[2]

    @property
    def whole(self) -> bool:
        """Whether it has the size that its note says."""
        return self.note.size in (None, self.size)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in a node's store. `files[0]` is the one that an engine is given."""

    node: str
    store: str  # absolute
    files: tuple[StoredFile, ...]
    part: Part | None = None

    @property
    def place(self) -> str:
        return self.files[0].place

    @property
    def path(self) -> str:
        return f"{self.store}/{self.place}"

    @property
    def id(self) -> str:
        """Twelve digits: of its SHA-256, or of its URL's where that is not known."""
        return (self.sha256 or self.place.split("/")[-2])[:12]

    @property
    def name(self) -> str:
        """For people: of a split model without the number of the part."""
        return shown_name(self.files[0].name)

    @property
    def note(self) -> Note:
        return self.files[0].note

    @property
    def sha256(self) -> str | None:
        return self.note.sha256

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def whole(self) -> bool:
        """All parts are there, each of its size."""
        count = self.part.count if self.part else 1
        return len(self.files) == count and all(file.whole for file in self.files)

    @property
    def quant(self) -> str | None:
        return self.note.quant or quant_of(self.name)

    @property
    def last_used(self) -> int:
        """Unix seconds; when it came, for a model without a note."""
        return max(file.note.last_used or file.note.fetched or file.mtime for file in self.files)

    @property
    def differs(self) -> bool:
        """Whether the last look found something else than what its SHA-256 says."""
        return any(file.note.verified == 0 for file in self.files)

    @property
    def verified(self) -> int | None:
        """When all of its files were last proven; None when one never was, or is not whole."""
        times = [file.note.verified for file in self.files]
        known = [time for time in times if time]  # 0 where the last look found something else
        return min(known) if self.whole and len(known) == len(times) else None


@dataclass(frozen=True, slots=True)
class NodeStore:
    """The store of one node: its models, and the partial files with their bytes and mtimes."""

    node: str
    store: str = ""
    models: tuple[StoredModel, ...] = ()
    parts: tuple[StoredFile, ...] = ()
    ended: bool = False  # whether the script came to its end
    now: int = 0  # Unix seconds by the node's clock, which its times are to be compared with


def parse(node: str, lines: Iterable[str]) -> NodeStore:
    """Read list.sh's output; what is not of its form is skipped."""
    store = ""
    files: list[StoredFile] = []
    parts: list[StoredFile] = []
    ended = False
    now = 0
    last: StoredFile | None = None
    for line in lines:
        key, _, value = line.partition("\t")
        if key == "store":
            store = plain(value) if value.startswith("/") else ""
        elif key == "now":
            now = integer(value) or 0
        elif key in ("file", "part"):
            last = _file(value, of_model=key == "file")
            if last is not None:
                (files if key == "file" else parts).append(last)
        elif key == "note" and last is not None and files and files[-1] is last:
            files[-1] = StoredFile(last.place, last.size, last.mtime, read_note(value))
        elif key == "store end":
            ended = True
    return NodeStore(node, store, _models(node, store, files) if store else (), tuple(parts), ended, now)


def _file(value: str, *, of_model: bool) -> StoredFile | None:
    told, _, rest = value.partition("\t")
    mtime, _, place = rest.partition("\t")
    size, when = integer(told), integer(mtime)
    words = place.split("/")
    if size is None or when is None or place != plain(place) or {"", ".", ".."} & set(words):
        return None
    if of_model and (len(words) != DEPTH.get(words[0]) or not place.endswith(".gguf")):
        return None
    return StoredFile(place, size, when)


def _models(node: str, store: str, files: Iterable[StoredFile]) -> tuple[StoredModel, ...]:
    """Parts of a split model become one."""
    found: dict[tuple[str, str, int], list[StoredFile]] = {}
    for file in files:
        part = part_of(file.name)
        directory = file.place.rpartition("/")[0]
        key = (directory, part.stem, part.count) if part else (directory, file.name, 0)
        found.setdefault(key, []).append(file)
    models = []
    for group in found.values():
        group.sort(key=lambda file: file.name)
        models.append(StoredModel(node, store, tuple(group), part_of(group[0].name)))
    return tuple(sorted(models, key=lambda model: (clean(model.name).lower(), model.place)))
