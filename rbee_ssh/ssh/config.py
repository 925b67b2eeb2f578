"""What ssh_config says beside where a host is: which hosts it knows by name, and whether names are hashed.

Both with asyncssh's own reader, so that Include, quotes and Match mean what they mean for a connection. It
passes over the directives that it has no handler for; the two readers here have others than its own.
"""

from __future__ import annotations

import fnmatch
import getpass
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rbee_ssh.errors import SshConfigInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.inventory.readers import host_problem
from rbee_ssh.ssh import destination
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.wording import nearest, quoted

_Handlers = dict[str, tuple[str, Callable[..., None]]]


class _Hosts(asyncssh.config.SSHClientConfig):
    """Gathers the words of every Host line, whichever host is asked for."""

    lines: ClassVar[list[list[str]]]

    def _host(self, option: str, args: list[str]) -> None:
        self.lines.append(args[:])
        args.clear()

    _handlers: _Handlers = {  # noqa: RUF012 # declared so by the class above
        "host": ("Host", _host),
        "include": ("Include", asyncssh.config.SSHClientConfig._include),
    }


class _Hashing(asyncssh.config.SSHClientConfig):
    _handlers: _Handlers = asyncssh.config.SSHClientConfig._handlers | {
        "hashknownhosts": ("HashKnownHosts", asyncssh.config.SSHClientConfig._set_bool)
    }


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts that ssh_config has: `aliases` by name, each once, and the patterns with a wildcard."""

    aliases: tuple[str, ...]
    patterns: tuple[str, ...] = ()

    def knows(self, alias: str) -> bool:
        """Whether there is a Host line for it, other than one for all hosts."""
        return alias in self.aliases or any(fnmatch.fnmatchcase(alias, pattern) for pattern in self.patterns)


USERS = "~/.ssh/config"


def users_hosts() -> Hosts:
    """The hosts of the user's own ssh_config, none where there is no such file. Raises as `hosts`."""
    return hosts(Path(os.path.expanduser(USERS)))


def where(alias: str) -> str:
    """How ssh_config has a host reached, as far as it can be said: "me@10.0.0.5:22 by way of gate"."""
    try:
        there = destination.of_node(Node(name=alias, host=alias))
    except SshConfigInvalid:
        return ""
    return there.address + (f" by way of {', '.join(there.hops)}" if there.hops else "")


def hosts(path: Path) -> Hosts:
    """The hosts of an ssh_config file and of those that it includes.

    Raises:
        SshConfigInvalid: it cannot be read or parsed.
    """

    class Reading(_Hosts):
        lines: ClassVar[list[list[str]]] = []

    if path.is_file():
        _load(Reading, [str(path)], "")
    return named(Reading.lines)


def named(lines: Sequence[Sequence[str]]) -> Hosts:
    """The hosts out of the words of Host lines.

    Left out are negated names, what is no host for an inventory, and localhost, which is this machine there.
    """
    aliases: dict[str, None] = {}
    patterns: dict[str, None] = {}
    for words in lines:
        without = [word[1:] for word in words if word.startswith("!")]
        for word in words:
            if word.startswith("!") or any(fnmatch.fnmatchcase(word, pattern) for pattern in without):
                continue
            if "*" in word or "?" in word:
                if word.strip("*?"):
                    patterns[word] = None
            elif host_problem(word) is None and word != "localhost":
                aliases[word] = None
    return Hosts(tuple(aliases), tuple(patterns))


def hashes_names(alias: str) -> bool:
    """Whether ssh would hash the name of this host in known_hosts (HashKnownHosts; off by default).

    Raises:
        SshConfigInvalid: ssh_config cannot be read or parsed.
    """
    return bool(_load(_Hashing, destination.config_files(), alias).get("HashKnownHosts"))


def _load(reader: type[asyncssh.config.SSHClientConfig], files: list[str], alias: str) -> Any:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""  # a container's user without a name
    try:
        return reader.load(None, files, False, False, False, user, (), alias, ())
    except (asyncssh.Error, ValueError, OSError, RuntimeError) as error:
        # RuntimeError: a file that includes itself, or the home of a user that does not exist.
        raise SshConfigInvalid(f"ssh_config: {error}", hint="ssh -G localhost") from error


def unknown(alias: str, known: Hosts) -> str:
    """That there is no such host in ssh_config, and the nearest there is."""
    near = nearest(alias, known.aliases)
    return f"~/.ssh/config has no Host {quoted(alias)}" + (f"; did you mean {quoted(near)}?" if near else "")
