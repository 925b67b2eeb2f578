"""Where a model comes from, in the four kinds there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rbee_ssh.wording import without_secrets

_HUB_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class HubRef:
    """A file of a Hugging Face repository. With neither `quant` nor `path` the quant rule picks."""

    org: str
    repo: str
    quant: str | None = None  # as written; quants are compared without case
    path: str | None = None  # in the repository, ends in .gguf
    revision: str | None = None  # branch, tag or commit; None: the default branch

    @property
    def repository(self) -> str:
        return f"{self.org}/{self.repo}"

    @property
    def display(self) -> str:
        what = f":{self.quant}" if self.quant else f"/{self.path}" if self.path else ""
        return f"hf:{self.repository}{what}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class UrlRef:
    """A file behind an https URL. `url` is without fragment, and may carry a signature in its query."""

    url: str
    sha256: str | None = None  # lower-case hex

    @property
    def display(self) -> str:
        """The URL without its query, which may be a secret."""
        return without_secrets(self.url)

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class NodeFileRef:
    """A file that is already on the node, used in place."""

    path: str  # absolute

    @property
    def display(self) -> str:
        return f"file://{self.path}"


@dataclass(frozen=True, slots=True)
class LocalFileRef:
    """A file of the control machine, which goes to the node first."""

    path: Path  # relative to the working directory, unless it is absolute

    @property
    def display(self) -> str:
        return str(self.path) if self.path.is_absolute() else f"./{self.path}"

    @property
    def hub_guess(self) -> str | None:
        """The hub reference that was meant if there is no such file: `org/repo` without its `hf:`."""
        parts = self.path.parts
        if len(parts) == 2 and all(is_hub_name(part) for part in parts):
            return f"hf:{parts[0]}/{parts[1]}"
        return None


Ref = HubRef | UrlRef | NodeFileRef | LocalFileRef


def is_hub_name(text: str) -> bool:
    """Whether the hub allows `text` as either half of a repository's id."""
    return bool(_HUB_NAME.fullmatch(text)) and "--" not in text and ".." not in text
