"""known_hosts as OpenSSH has it: read, matched by the host's name, told apart into unknown and changed.

asyncssh checks the key during the exchange, against what is found here. It would match by itself, but not as
OpenSSH does: a key that stands under the peer's address would pass for any name that leads there, an alias
would take a port, `10.0.0.0/8` would be a network, and a key that is revoked under `[host]:port` would pass
where it stands under the bare name.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from rbee_ssh.ssh.lean import asyncssh

# After lean, which decides what of asyncssh is loaded.
from asyncssh.packet import SSHPacket, String  # isort: skip
from asyncssh.public_key import SSHOpenSSHCertificate  # isort: skip

USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")

_CERT = "-cert-v01@openssh.com"
# OpenSSH's order (HostKeyAlgorithms in `ssh -G`): no ssh-rsa, which signs with SHA-1.
_PLAIN = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
ORDER = (*(name.removesuffix("@openssh.com") + _CERT for name in _PLAIN), *_PLAIN)
AUTHORITY, REVOKED = "@cert-authority", "@revoked"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that stands in known_hosts, and where."""

    file: str
    line: int
    names: str  # as they stand there; "|1|…" where they are hashed
    marker: str  # "", AUTHORITY or REVOKED
    key: asyncssh.SSHKey

    @property
    def fingerprint(self) -> str:
        return self.key.get_fingerprint()

    @property
    def key_type(self) -> str:
        return self.key.get_algorithm()

    @property
    def for_many(self) -> bool:
        """Whether it stands for whatever matches a pattern."""
        return not self.names.startswith("|") and has_pattern(self.names)


@dataclass(frozen=True, slots=True)
class Trusted:
    """What one host may show: a key, or a certificate of an authority; and what none may."""

    keys: tuple[KnownKey, ...] = ()
    authorities: tuple[KnownKey, ...] = ()
    revoked: tuple[KnownKey, ...] = ()


Entry = tuple[str, int, str]


def read(files: Iterable[str]) -> tuple[Entry, ...]:
    """(file, line number, text) of every entry in the files that exist; without its comment.

    A file that has not changed is read once: a command that logs in to hundreds of nodes asks as often.
    """
    entries: list[Entry] = []
    for name in files:
        path = os.path.expanduser(name)
        with contextlib.suppress(OSError):
            now = os.stat(path)
            entries += _read(path, (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns))
    return tuple(entries)


@lru_cache(maxsize=8)
def _read(path: str, _version: tuple[int, ...]) -> tuple[Entry, ...]:
    text = Path(path).read_bytes().decode("utf-8", "replace")
    lines = ((number, _words(line)) for number, line in enumerate(text.split("\n"), 1))
    return tuple(
        (path, number, _entry(words)) for number, words in lines if words and not words[0].startswith("#")
    )


def _words(line: str) -> list[str]:
    """As OpenSSH parts them. What else Python takes for the end of a line or a word may stand in a comment,
    and that somebody else may have written."""
    return [word for word in line.rstrip("\r").replace("\t", " ").split(" ") if word]


def _entry(words: list[str]) -> str:
    """Marker, names, type and key. Names are compared in lower case, but for those that are a hash."""
    at = 1 if words[0].startswith("@") else 0
    return " ".join(
        word if word.startswith("|") or number != at else word.lower()
        for number, word in enumerate(words[: at + 3])
    )


class KnownHosts:
    """The entries, by name. A malformed one is passed over, as OpenSSH does.

    Keys are read where their names match: one takes 20 µs, and there is one for each of many nodes.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._rows: list[tuple[str, int, str, str, str]] = []
        self._plain: dict[str, list[int]] = {}
        self._patterns: dict[str, list[tuple[int, str]]] = {}  # by marker: a hash costs 2 µs
        for file, number, text in entries:
            words = text.split(" ", 3)
            marker = words.pop(0) if text.startswith("@") else ""
            if len(words) < 3 or marker not in ("", AUTHORITY, REVOKED):
                continue
            names, at = words[0], len(self._rows)
            self._rows.append((file, number, names, marker, f"{words[1]} {words[2]}"))
            if names.startswith("|") or has_pattern(names):
                self._patterns.setdefault(marker, []).append((at, names))
            else:
                for name in names.split(","):
                    self._plain.setdefault(name, []).append(at)

    def under(self, name: str, marker: str = "") -> tuple[KnownKey, ...]:
        """What stands under a name, in the order of the files: its keys, or lines with that marker.

        Args:
            name: as `entry_name` spells it. What stands there for a host's port 22 says nothing about
                another port of it, where a container may answer.
        """
        rows = [at for at in self._plain.get(name, ()) if self._rows[at][3] == marker]
        rows += [at for at, names in self._patterns.get(marker, ()) if _matches(names, name)]
        return tuple(entry for at in sorted(rows) if (entry := self._row(at)) is not None)

    def of_key(self, key: asyncssh.SSHKey) -> list[KnownKey]:
        """Where this very key stands as a host's, whatever the name."""
        text = text_of(key)
        rows = [at for at, row in enumerate(self._rows) if row[3] == "" and row[4] == text]
        return [entry for at in rows if (entry := self._row(at)) is not None]

    def _row(self, at: int) -> KnownKey | None:
        file, number, names, marker, text = self._rows[at]
        key = _key(text)
        return None if key is None else KnownKey(file, number, names, marker, key)

    def trusted(self, names: Sequence[str], also_revoked: Sequence[str] = ()) -> Trusted:
        """What a host may show.

        Args:
            names: how known_hosts may spell it, as `names_of`. As in OpenSSH, a later one counts where
                nothing stands under the earlier ones; for keys and for authorities each.
            also_revoked: other spellings, of its address, under which a key that was revoked stays so.
        """

        def first(marker: str) -> tuple[KnownKey, ...]:
            return next((entries for name in names if (entries := self.under(name, marker))), ())

        everywhere = dict.fromkeys((*names, *also_revoked))
        revoked = tuple(entry for name in everywhere for entry in self.under(name, REVOKED))
        return Trusted(first(""), first(AUTHORITY), revoked)


def has_pattern(names: str) -> bool:
    return any(sign in names for sign in "*?!")


@lru_cache(maxsize=8)
def load(entries: tuple[Entry, ...]) -> KnownHosts:
    """The entries by name; made once for the same ones."""
    return KnownHosts(entries)


@lru_cache(maxsize=4096)
def _key(text: str) -> asyncssh.SSHKey | None:
    """A key of known_hosts; None where it is none that asyncssh reads."""
    try:
        return asyncssh.import_public_key(text)
    except ValueError:
        return None


def text_of(key: asyncssh.SSHKey) -> str:
    """Its type and its base64, as they stand in a file."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def _matches(names: str, name: str) -> bool:
    """Whether a list of patterns, or a hash, is for this name. A negated pattern takes it out of the list."""
    if names.startswith("|"):
        return _is_hash_of(names, name)
    matched = False
    for pattern in names.split(","):
        # To fnmatch a bracket begins a set of characters, to OpenSSH it is one.
        if fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _is_hash_of(names: str, name: str) -> bool:
    try:
        _, kind, salt, digest = names.split("|")
        hashed = hmac.digest(b64decode(salt, validate=True), name.encode(), "sha1")
        return kind == "1" and hashed == b64decode(digest, validate=True)
    except ValueError:
        return False


def algorithms(trusted: Trusted, configured: str | None = None) -> list[str]:
    """The kinds of host key to ask a server for: the known ones first, the others behind them, as OpenSSH.

    With the known ones alone, a server that has none of those would hang up, and its new key, which tells
    that it has changed, would never be seen. Certificates are asked for where an authority is known.

    Args:
        configured: HostKeyAlgorithms of ssh_config. A list there is taken as it stands.

    Raises:
        ValueError: there is nothing in `configured` that asyncssh has.
    """
    order = _configured(configured)
    sign = configured[:1] if configured else "+"
    if sign not in "+-^":
        return order
    wanted = [name for name in order if trusted.authorities or not name.endswith(_CERT)]
    if sign == "^":
        return wanted
    kinds = {entry.key_type for entry in trusted.keys}
    return sorted(wanted, key=lambda name: not name.endswith(_CERT) and _kind(name) not in kinds)


def _configured(text: str | None) -> list[str]:
    """HostKeyAlgorithms as OpenSSH understands it: a list, or a change to its own one (+, -, ^)."""
    had = [name.decode("ascii") for name in _had()]
    default = [name for name in ORDER if name in had]
    if text is None:
        return default
    sign = text[:1] if text[:1] in "+-^" else ""
    patterns = text.removeprefix(sign).split(",")
    named = [name for pattern in patterns for name in had if fnmatchcase(name, pattern)]
    order = {
        "": named,
        "+": [*default, *named],
        "-": [name for name in default if name not in named],
        "^": [*named, *default],
    }[sign]
    if not order:
        raise ValueError(f"HostKeyAlgorithms {text}: none of them is supported")
    return list(dict.fromkeys(order))


def signatures() -> list[str]:
    """How a key of the user's may sign: as asyncssh can, but not with SHA-1 (PubkeyAcceptedAlgorithms)."""
    names = asyncssh.public_key.get_default_public_key_algs()
    return [name.decode("ascii") for name in names if name != b"ssh-rsa"]


def signed_with_sha1(certificate: SSHOpenSSHCertificate) -> bool:
    """Whether its authority has signed it so, which OpenSSH does not accept (CASignatureAlgorithms)."""
    # It ends in the authority's key and its signature, each with its length before it.
    _, _, signature = certificate.public_data.rpartition(String(certificate.signing_key.public_data))
    return SSHPacket(SSHPacket(signature).get_string()).get_string() == b"ssh-rsa"


def _had() -> list[bytes]:
    return [*asyncssh.public_key.get_certificate_algs(), *asyncssh.public_key.get_public_key_algs()]


def _kind(algorithm: str) -> str:
    """The type of key that signs so."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def known_as(
    known: KnownHosts, key: asyncssh.SSHKey, addresses: Sequence[str]
) -> tuple[str, KnownKey] | None:
    """Under which other name this very key stands, and where; the address goes first.

    Args:
        addresses: spellings of the address at which the host was reached.
    """
    for address in addresses:
        for entry in known.under(address):
            if entry.key == key:
                return address, entry
    for entry in known.of_key(key):
        return ("a name that is hashed" if entry.names.startswith("|") else entry.names), entry
    return None


def told(name: str, where: KnownKey) -> str:
    """A name that a key has, and where it stands."""
    return f"{name} ({where.file} line {where.line})"


def entry_name(host: str, port: int) -> str:
    """How known_hosts spells a host: bare on port 22, else `[host]:port`."""
    return host if port == 22 else f"[{host}]:{port}"


def names_of(host: str, port: int, alias: str | None = None) -> tuple[str, ...]:
    """How known_hosts may spell a host, the one that counts first: an alias alone, whatever the port; else
    with its port, and bare."""
    if alias:
        return (alias.lower(),)
    spelled = dict.fromkeys((canonical(host), host.lower()))
    return tuple(dict.fromkeys([*(entry_name(name, port) for name in spelled), *spelled]))


def canonical(host: str) -> str:
    """A host as known_hosts has it: in lower case, and an address in its usual form (127.1: 127.0.0.1)."""
    host = host.lower()
    if ":" in host or host[:1].isdigit():
        with contextlib.suppress(OSError, UnicodeError):
            answer = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            # getaddrinfo keeps the interface of fe80::1%eth0 in a number beside it.
            return socket.getnameinfo(answer[0][4], socket.NI_NUMERICHOST)[0]
    return host
