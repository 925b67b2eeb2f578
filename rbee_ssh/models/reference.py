"""The text of a model reference → HubRef, UrlRef, NodeFileRef or LocalFileRef.

Nothing is looked up: that a file, a repository or a revision exists is another room's question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from rbee_ssh.errors import ModelRefInvalid
from rbee_ssh.inventory import Inventory, ModelPreset
from rbee_ssh.wording import has_control, listed, nearest, quoted, without_secrets

__all__ = ["FORMS", "HubRef", "LocalFileRef", "NodeFileRef", "Ref", "UrlRef", "parse_reference"]

FORMS = (
    ("hf:ORG/REPO", "hf:bartowski/SmolLM2-135M-Instruct-GGUF"),
    ("hf:ORG/REPO:QUANT", "hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"),
    ("hf:ORG/REPO/FILE.gguf", "hf:bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q8_0.gguf"),
    ("hf:…@REVISION", "hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M@main"),
    ("https://…gguf[#sha256=HEX]", "https://example.org/models/tiny.gguf"),
    ("file:///PATH, on the node", "file:///srv/models/tiny.gguf"),
    ("a path, on this machine", "./models/tiny.gguf"),
    ("a preset of the inventory", "tiny, for [models.tiny]"),
)

_LONGEST = 4096  # bytes; no path may be longer on Linux
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_-])?")
_ID = re.compile(r"[0-9a-f]{12}")  # as `models list` shows them
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def parse_reference(text: str, inventory: Inventory) -> tuple[Ref, ModelPreset | None]:
    """What `text` refers to, and the preset if it is the name of one.

    Args:
        text: as the user wrote it. Percent signs stand for themselves, and `~/` for the home directory.
        inventory: its presets win over every other reading; a relative path in a preset is relative to the
            inventory's file.

    Raises:
        ModelRefInvalid: none of the forms; the hint lists them with an example of each.
    """
    preset = inventory.models.get(text)
    if preset is None:
        return _parse(text, text, inventory), None
    said = f"{text}, which is {preset.source}"
    if preset.source in inventory.models:
        raise _refusal(said, "the source of a preset is not another preset")
    base = inventory.path.parent if inventory.path else Path()
    return _parse(preset.source, said, inventory, base), preset


def _parse(text: str, said: str, inventory: Inventory, base: Path = Path()) -> Ref:
    def refuse(problem: str) -> NoReturn:
        raise _refusal(said, problem)

    if not text:
        refuse("it is empty")
    if has_control(text):
        refuse("it holds a control character, a line break, or what is not UTF-8")
    if len(text.encode()) > _LONGEST:
        refuse(f"it is longer than {_LONGEST} bytes")
    scheme = _SCHEME.match(text)
    try:
        if scheme and scheme[1] == "hf":
            return _hub(text)
        if scheme and scheme[1] == "https":
            return _url(text)
        if scheme and scheme[1] == "file":
            return _node_file(text)
        if scheme:
            raise ValueError(_scheme_problem(text, scheme[1]))
        return _local(text, inventory, base)
    except ValueError as error:
        refuse(str(error))


def _hub(text: str) -> HubRef:
    rest = text.removeprefix("hf:")
    if rest.startswith("/"):
        raise ValueError(f"the slashes after hf: are too many; perhaps hf:{rest.lstrip('/')}")
    before, at, after = rest.rpartition("@")
    # A file may have an @ in its name; a revision that ends in .gguf is not worth the doubt.
    rest, revision = (before, after) if at and not after.lower().endswith(".gguf") else (rest, None)
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise ValueError("after @ comes a branch, tag or commit, and nothing after it")
    org, _, rest = rest.partition("/")
    found = re.match(r"[^/:]*", rest)
    repo = found[0] if found else ""
    rest = rest[len(repo) :]
    if "@" in repo:
        raise ValueError("@REVISION comes last, after the file")
    if not is_hub_name(org) or not is_hub_name(repo):
        raise ValueError("after hf: comes ORG/REPO as the hub has it")
    if not rest:
        return HubRef(org, repo, revision=revision)
    if rest[0] == ":":
        quant = rest[1:]
        if not _QUANT.fullmatch(quant) or quant.lower().endswith("gguf"):
            raise ValueError("after : comes a quant such as Q4_K_M; a file comes after /")
        return HubRef(org, repo, quant=quant, revision=revision)
    path = rest[1:]
    if not path.lower().endswith(".gguf") or "\\" in path or {"", ".", ".."} & set(path.split("/")):
        raise ValueError("after the repository comes the path of a file in it that ends in .gguf")
    return HubRef(org, repo, path=path, revision=revision)


def _url(text: str) -> UrlRef:
    if any(char.isspace() for char in text):
        raise ValueError("a URL has no spaces; write %20")
    url, mark, fragment = text.partition("#")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("its host or port is not one") from None
    if not host:
        raise ValueError("it has no host")
    if "@" in parts.netloc:
        raise ValueError("a user or password in a URL would end up in logs")
    if not parts.path.lower().endswith(".gguf") or parts.path.endswith("/.gguf"):
        raise ValueError("its path does not end in the name of a .gguf file")
    if host == "huggingface.co" and "/blob/" in parts.path:
        raise ValueError("that is the page about the file; write hf:ORG/REPO/FILE.gguf")
    digest = re.fullmatch(r"sha256=([0-9A-Fa-f]{64})", fragment)
    if mark and not digest:
        raise ValueError("after # comes sha256= and 64 hexadecimal digits")
    return UrlRef(url, digest[1].lower() if digest else None)


def _node_file(text: str) -> NodeFileRef:
    path = text.removeprefix("file:")
    if not path.startswith("///"):
        raise ValueError("the path of a file on the node is absolute, after file://")
    # The same file under two spellings would be two workers. `..` stays: a symlink may stand before it.
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.endswith(("/", "/.", "/..")):
        raise ValueError("that is a directory, not a file")
    return NodeFileRef("/" + "/".join(parts))


def _local(text: str, inventory: Inventory, base: Path) -> LocalFileRef:
    if "/" not in text and not text.lower().endswith(".gguf"):
        near = nearest(text, inventory.models)
        known = listed(inventory.models) or "none"
        question = f"; did you mean {quoted(near)}?" if near else ""
        if _ID.fullmatch(text) and not near:
            question = "; an id of `models list` stands for what it was fetched from, or file:// and its path"
        raise ValueError(f"it is not a preset; the inventory has {known}{question}")
    if text.endswith(("/", "/.", "/..")):
        raise ValueError("that is a directory, not a file")
    try:
        return LocalFileRef(base / Path(text).expanduser())
    except RuntimeError:
        raise ValueError("~ has no meaning here: there is no such home directory") from None


def _scheme_problem(text: str, scheme: str) -> str:
    if scheme == "http":
        return "over http the file can be changed on its way; use https"
    if scheme.lower() in ("hf", "https", "file"):
        return f"write {scheme.lower()}: in lower case"
    return f"{scheme}: is not known here" + (f"; a file of that name is ./{text}" if "//" not in text else "")


def _refusal(said: str, problem: str) -> ModelRefInvalid:
    width = max(len(form) for form, _ in FORMS)
    forms = "\n".join(f"  {form:<{width}}  {example}" for form, example in FORMS)
    shown = without_secrets(said)
    return ModelRefInvalid(
        f"{quoted(shown, 200)} is not a model reference: {problem}",
        hint=f"write one of these\n{forms}",
        details={"reference": shown, "forms": [{"form": form, "example": text} for form, text in FORMS]},
    )


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
