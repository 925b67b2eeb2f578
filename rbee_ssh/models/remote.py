"""A model that is somewhere else, resolved: its files, where they belong on a node, what their notes say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rbee_ssh.models.reference import HubRef, UrlRef
from rbee_ssh.models.store import Note

# A link goes into a downloader's configuration on the node, between double quotes.
_LINK = re.compile(r"https?://[A-Za-z0-9_.:\[\]-]+(?:[/?][!#-\[\]-~]*)?")
_LONGEST_LINK = 8192
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file. `size` in bytes and `sha256` are None where nobody has told them."""

    origin: str  # the path in the repository; of a URL the URL without its query
    place: str  # relative to the node's store
    size: int | None
    sha256: str | None

    @property
    def name(self) -> str:
        return self.place.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Remote:
    """A model of the hub or behind a URL. `files[0]` is the one that an engine is given."""

    ref: HubRef | UrlRef
    source: str  # for the notes: without secrets
    revision: str | None  # the commit, or what the server says to tell one version from another (ETag)
    files: tuple[RemoteFile, ...]
    protected: bool = False  # only a token opens it

    @property
    def size(self) -> int | None:
        """Bytes of all files; None when one is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def proven(self) -> bool:
        """Whether it can be told of any bytes whether they are it."""
        return all(file.sha256 is not None and file.size is not None for file in self.files)

    @property
    def name(self) -> str:
        return self.files[0].name

    def note(self, file: RemoteFile, now: int) -> Note:
        """What the node keeps beside the file. `now`: Unix seconds."""
        return Note(
            source=self.source,
            revision=self.revision,
            sha256=file.sha256,
            size=file.size,
            fetched=now,
            last_used=now,
            verified=now if file.sha256 else None,
        )

    def memo(self) -> dict[str, Any]:
        """What the registry remembers, so that a later command need not ask again."""
        return {
            "source": self.source,
            "revision": self.revision,
            "protected": self.protected,
            "files": [[file.origin, file.place, file.size, file.sha256] for file in self.files],
        }


MEMOS = "model:"


def memo_key(ref: HubRef | UrlRef) -> str:
    """The registry's key; it begins with MEMOS. Of a URL only a hash: its query may be a secret."""
    if isinstance(ref, HubRef):
        return f"{MEMOS}{ref.display}"
    return MEMOS + hashlib.sha256(f"{ref.url} {ref.sha256}".encode("utf-8", "replace")).hexdigest()


def from_memo(ref: HubRef | UrlRef, memo: Mapping[str, Any] | None) -> Remote | None:
    """What `memo` was made of; None when there is none, or it is not one of ours."""
    known = read_memo(memo or {})
    return Remote(ref, *known) if known else None


def read_memo(memo: Mapping[str, Any]) -> tuple[str, str | None, tuple[RemoteFile, ...], bool] | None:
    """Of what `memo` was made of: source, revision, files, and whether only a token opens it."""
    try:
        files = tuple(RemoteFile(str(o), str(p), _size(s), _digest(d)) for o, p, s, d in memo["files"])
        source, revision, protected = str(memo["source"]), memo["revision"], bool(memo["protected"])
    except (KeyError, TypeError, ValueError):
        return None
    return (source, None if revision is None else str(revision), files, protected) if files else None


def _size(value: object) -> int | None:
    if value is None or (isinstance(value, int) and value >= 0):
        return value
    raise ValueError(value)


def _digest(value: object) -> str | None:
    if value is None or (isinstance(value, str) and _SHA256.fullmatch(value)):
        return value
    raise ValueError(value)


def is_link(url: str) -> bool:
    """Whether a node may be told to fetch this: http or https, and nothing that would need quoting."""
    return len(url) <= _LONGEST_LINK and bool(_LINK.fullmatch(url))
