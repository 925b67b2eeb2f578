"""A llama.cpp release archive, as a file here or a URL that the node fetches."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rbee_ssh.errors import ChecksumMismatch, UsageInvalid
from rbee_ssh.wording import quoted, without_secrets

_URL = re.compile(r"https?://[^\s\"'\\]+")
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
# The first bytes of gzip, zip, xz and a tar without compression (at 257).
_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ")


@dataclass(frozen=True, slots=True)
class Archive:
    """Where it is: `path` or `url`. `identity` tells archives apart: the SHA-256 where it is known."""

    path: Path | None
    url: str | None = field(repr=False)  # may hold a password
    sha256: str | None
    identity: str


def is_url(text: str) -> bool:
    """Whether this is an http or https URL that needs no quoting, with a host."""
    try:
        return bool(_URL.fullmatch(text) and urlsplit(text).hostname)
    except ValueError:
        return False


def archive(text: str, sha256: str | None) -> Archive:
    """What `--archive` names.

    Args:
        sha256: what it must have, in hex.

    Raises:
        UsageInvalid: no such file, not an archive, not a URL, not a SHA-256; http without one.
        ChecksumMismatch: the file here has another one.
    """
    if sha256 is not None:
        match = _SHA256.fullmatch(sha256.strip().lower())
        if not match:
            raise UsageInvalid(f"--sha256 {quoted(sha256)} is not a SHA-256: 64 hexadecimal digits")
        sha256 = match[1]
    if "://" in text:
        if not is_url(text):
            raise UsageInvalid("--archive is neither a file nor a URL such as https://example.org/llama.zip")
        if sha256 is None and not text.startswith("https:"):
            raise UsageInvalid(
                "over http an archive can be changed on its way, and it will run: its SHA-256 is needed",
                hint=f"rbee nodes setup NAME --archive {shlex.quote(without_secrets(text))} --sha256 HEX"
                "   # or https",
            )
        return Archive(None, text, sha256, sha256 or hashlib.sha256(text.encode()).hexdigest())
    path = Path(text).expanduser()
    try:
        with path.open("rb") as file:
            start = file.read(262)
            if not start.startswith(_MAGIC) and start[257:] != b"ustar":
                raise UsageInvalid(f"{path} is neither a .tar.gz nor a .zip")
            file.seek(0)
            have = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageInvalid(
            f"--archive {quoted(without_secrets(text))}: {error.strerror}",
            hint=f"ls -l {shlex.quote(without_secrets(str(path)))}",
        ) from error
    if sha256 not in (None, have):
        raise ChecksumMismatch(
            f"{path} has SHA-256 {have}, not the one that was given",
            hint="download it again",
            details={"path": str(path), "sha256": have, "wanted": sha256},
        )
    return Archive(path.resolve(), None, have, have)
