"""The model store on a node: where a file belongs in it, and the note beside each file. Pure.

    MODELS_DIR/local/SHA12/NAME           sent from a control machine
    MODELS_DIR/hf/ORG/REPO/SHA12/NAME     from the hub
    MODELS_DIR/url/HOST/SHA12/NAME        from a URL
    MODELS_DIR/…/NAME.json                the note of the file beside it

SHA12 is the first 12 hexadecimal digits of the file's SHA-256; of the first part's for a split model, whose
parts lie side by side; of the URL where no SHA-256 is known. So another revision never replaces a file that a
worker has mapped. A model's name ends in .gguf, and nothing else in the store does.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from rbee_ssh.node.untrusted_text import clean
from rbee_ssh.wording import without_secrets

SUFFIX = ".gguf"
MAX_NAME = 200  # bytes: file systems allow 255, and a note and a partial file append to it
MAX_NOTE = 16 * 1024  # bytes; ours have some hundreds

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA12 = re.compile(r"[0-9a-f]{12}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
# What no shell, terminal or file system needs escaped; the rest is replaced in directory names.
_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


def local_place(sha256: str, name: str) -> str:
    """Where a file sent from here belongs, relative to the store."""
    return f"local/{sha256[:12]}/{safe_name(name)}"


def hub_place(org: str, repo: str, sha256: str, name: str) -> str:
    """Where a file of a repository belongs, relative to the store.

    Args:
        sha256: of the file; of the first part for a split model, so that its parts meet in one directory.
        name: the file's path in the repository; its last part counts.
    """
    return f"hf/{_directory(org)}/{_directory(repo)}/{sha256[:12]}/{safe_name(name)}"


def url_place(url: str, sha256: str | None, name: str) -> str:
    """Where a file from a URL belongs, relative to the store.

    Args:
        sha256: of the file, or of a split model's first part; None when nobody has told it.
    """
    host = urlsplit(url).netloc.rpartition("@")[2].lower()
    # Without query and fragment: a signature is another one each time, and a secret.
    known = sha256 or hashlib.sha256(without_secrets(url).encode("utf-8", "replace")).hexdigest()
    return f"url/{_directory(host)}/{known[:12]}/{safe_name(name)}"


def sum_of_place(place: str, revision: str | None = None) -> str | None:
    """What the SHA-256 of a file that stands alone begins with, by its place in the store; None where that is
    made of something else: of a URL, or of the commit (`revision`) of a repository that tells no SHA-256."""
    kind, *_, digits, _ = place.split("/")
    if kind == "url" or not _SHA12.fullmatch(digits) or part_of(place):
        return None
    of_commit = kind == "hf" and _COMMIT.fullmatch(revision or "") and (revision or "").startswith(digits)
    return None if of_commit else digits


def in_store(models_dir: str, place: str) -> str:
    """The path on the node; `models_dir` is absolute or begins with ~/."""
    return f"{models_dir.rstrip('/')}/{place}"


def safe_name(text: str) -> str:
    """A file name made of the last part of a path that a stranger may have chosen.

    It is one path component of at most 200 bytes that begins with neither dot nor dash, holds no control
    character, nothing that turns text around and no half of a surrogate pair, and ends in .gguf. What is too
    long loses its beginning: the quant and a part's number stand at the end.
    """
    name = re.split(r"[/\\]", text)[-1]
    name = "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else "_" for c in name).strip()
    if name.lower().endswith(SUFFIX):
        name = name[: -len(SUFFIX)]
    room = MAX_NAME - len(SUFFIX)
    # Cut where a character begins.
    name = name.encode()[-room:].decode("utf-8", "ignore")
    if name[:1] in ("", ".", "-", " ", "~"):
        name = f"_{name}" if len(name.encode()) < room else f"_{name[1:]}"
    return name + SUFFIX


def _directory(text: str) -> str:
    """A directory's name, out of an organisation, a repository or a host with its port."""
    name = _PLAIN.sub("_", text)[:100]
    return name if name[:1] not in ("", ".", "-") else f"_{name}"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a split model: the name they share, its number from 1, how many there are, its ending."""

    stem: str
    number: int
    count: int
    suffix: str = SUFFIX

    def names(self) -> tuple[str, ...]:
        """The file names of all parts, in order."""
        return tuple(f"{self.stem}-{n:05}-of-{self.count:05}{self.suffix}" for n in range(1, self.count + 1))


def part_of(name: str) -> Part | None:
    """Which part of a split model a file is by its name, None for a model of one file."""
    found = _PART.fullmatch(name)
    if not found:
        return None
    number, count = int(found[2]), int(found[3])
    return Part(found[1], number, count, found[4]) if 1 <= number <= count else None


def shown_name(name: str) -> str:
    """A model's name for people, by its first file's: of a split model without the number of the part."""
    part = part_of(name)
    return f"{part.stem}.gguf" if part else name


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of a stored file. Times are Unix seconds, `size` is bytes; None means not known.

    Attributes:
        source: where it came from, as a user would write it, without a URL's query.
        revision: the commit of a repository.
        last_used: when a worker was last started with it; at first, when it was fetched.
        verified: when its SHA-256 was last compared; None when it never could be, 0 when it differed.
        quant, architecture, parameters, context: from the GGUF header, where somebody has read it.
        told_by: the node that alone says `source`, for a copy of a file that nobody else knew by its SHA-256.
        gated: 1 when only a token opens it where it came from: then no other user of the node may read it.
    """

    source: str = ""
    revision: str | None = None
    sha256: str | None = None
    size: int | None = None
    fetched: int | None = None
    last_used: int | None = None
    verified: int | None = None
    quant: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    context: int | None = None
    told_by: str | None = None
    gated: int | None = None

    def arrived(self, sha256: str, size: int, *, verified: bool) -> Note:
        """The note of a file that is put into a store now."""
        now = int(time.time())
        when = now if verified else None
        return replace(self, sha256=sha256, size=size, fetched=now, last_used=now, verified=when)

    def to_json(self) -> str:
        """One line of JSON, ASCII only. Scripts on the node change its numbers (`rbee_note` in node/lib/)."""
        known = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(known, separators=(",", ":"))


def read_note(data: str | bytes) -> Note:
    """A note as a node has it. It may hold anything: what is not of its kind is left out.

    Args:
        data: the file's text; of more than 16 KiB nothing is believed.
    """
    if len(data) > MAX_NOTE:
        return Note()
    try:
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        found = json.loads(text)
    except (ValueError, RecursionError):
        return Note()
    if not isinstance(found, dict):
        return Note()
    return Note(**{key: value for key in _FIELDS if (value := _value(key, found.get(key))) is not None})


_FIELDS = tuple(field.name for field in fields(Note))
_TEXTS = frozenset({"source", "revision", "sha256", "told_by", "quant", "architecture"})


def _value(key: str, value: object) -> Any:
    if key == "sha256":
        return value if isinstance(value, str) and _SHA256.fullmatch(value) else None
    if key in _TEXTS:
        return (clean(value) or None) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        return None
    return value
