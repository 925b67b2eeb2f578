"""known_hosts as OpenSSH has it: read, matched, and told apart into unknown and changed.

asyncssh reads the format (hashed names, `[host]:port`, @cert-authority, @revoked) and checks the key during
the exchange. What it does not do is done here: it gives up on a whole file for one malformed line and on a
line for an umlaut in its comment, it takes upper case for another name, and it cannot say in which file and
line the key stands that contradicts the server's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


def read(files: Iterable[str]) -> list[tuple[str, int, str]]:
    """(file, line number, text) of every entry in the files that exist; without its comment."""
    entries: list[tuple[str, int, str]] = []
    for name in files:
        path = Path(os.path.expanduser(name))
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if words and not words[0].startswith("#"):
                entries.append((str(path), number, _entry(words)))
    return entries


def _entry(words: list[str]) -> str:
    """Marker, names, type and key. Names are compared in lower case, but for those that are a hash."""
    at = 1 if words[0].startswith("@") else 0
    return " ".join(
        word if word.startswith("|") or number != at else word.lower()
        for number, word in enumerate(words[: at + 3])
    )


def load(entries: Sequence[tuple[str, int, str]]) -> asyncssh.SSHKnownHosts:
    """What asyncssh checks a host key against; a malformed line is skipped, as OpenSSH does."""
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


def keys_of(entries: Sequence[tuple[str, int, str]], name: str) -> list[KnownKey]:
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
