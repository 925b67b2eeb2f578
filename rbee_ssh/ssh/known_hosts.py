"""known_hosts as OpenSSH has it: read, matched, and told apart into unknown and changed.

asyncssh reads the format (hashed names, `[host]:port`, @cert-authority, @revoked) and checks the key during
the exchange. What it does not do is done here: it gives up on a whole file for one malformed line and on a
line for an umlaut in its comment, it takes upper case for another name, and it cannot say in which file and
line the key stands that contradicts the server's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rbee_ssh.ssh.lean import asyncssh

USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that known_hosts holds for a host, and where."""

    file: str
    line: int
    fingerprint: str
    key_type: str
    revoked: bool


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
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    lines = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
    return tuple(
        (path, number, _entry(words)) for number, words in lines if words and not words[0].startswith("#")
    )


def _entry(words: list[str]) -> str:
    """Marker, names, type and key. Names are compared in lower case, but for those that are a hash."""
    at = 1 if words[0].startswith("@") else 0
    return " ".join(
        word if word.startswith("|") or number != at else word.lower()
        for number, word in enumerate(words[: at + 3])
    )


@lru_cache(maxsize=8)
def load(entries: tuple[Entry, ...]) -> asyncssh.SSHKnownHosts:
    """What asyncssh checks a host key against; a malformed line is skipped, as OpenSSH does.

    Made once for the same entries: a key takes 20 µs to read, and there is one for each of many nodes.
    """
    known = asyncssh.SSHKnownHosts()
    for _, _, line in entries:
        try:
            known.load(line)
        except ValueError:
            continue
    return known


def algorithms(known: asyncssh.SSHKnownHosts, host: str, port: int) -> list[str]:
    """The kinds of host key to ask a server for: the known ones first, the others behind them, as OpenSSH.

    asyncssh would ask for the known ones alone. A server that has none of those hangs up, and its new key,
    which tells that it has changed, is never seen. Certificates are asked for where an authority is known.
    """
    keys, authorities, *_ = known.match(host, "", port if port != 22 else None)
    order = [algorithm for key in keys for algorithm in key.sig_algorithms]
    if authorities:
        order += asyncssh.public_key.get_default_certificate_algs()
    order += asyncssh.public_key.get_default_public_key_algs()
    return list(dict.fromkeys(algorithm.decode("ascii") for algorithm in order))


def keys_of(entries: Iterable[Entry], name: str) -> list[KnownKey]:
    """The keys that stand in known_hosts under this name, with file and line; authorities are not meant.

    Args:
        name: as `entry_name` spells it. What stands there for a host's port 22 says nothing about another
            port of it, where a container may answer.
    """
    found: list[KnownKey] = []
    for file, number, line in entries:
        try:
            one = asyncssh.SSHKnownHosts(line)
            matched = one.match(name, "", None)
        except ValueError:
            continue
        for keys, revoked in ((matched[0], False), (matched[2], True)):
            for key in keys:
                found.append(KnownKey(file, number, key.get_fingerprint(), key.get_algorithm(), revoked))
    return found


def entry_name(host: str, port: int) -> str:
    """How known_hosts spells a host: bare on port 22, else `[host]:port`."""
    return host if port == 22 else f"[{host}]:{port}"
