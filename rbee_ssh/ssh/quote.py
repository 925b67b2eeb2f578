"""The one path by which a value reaches a remote shell.

A script is sent on the stdin of a bare `sh` (rbee_ssh/ssh/script.py), so the login shell only ever parses
that one word. The values travel as single-quoted words of one `set --` line: nothing in them is expanded,
by dash, bash, ksh, zsh or busybox (POSIX 2.2.2, "Single-Quotes").
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from rbee_ssh.errors import UsageInvalid


def quote(value: str) -> str:
    """`value` as one word of a POSIX shell, whatever it holds.

    Raises:
        UsageInvalid: the value holds a NUL, which no argument of a process can.
    """
    if "\0" in value:
        raise UsageInvalid(f"a value holds a NUL character: {value[:60]!r}", hint="remove the NUL")
    return shlex.quote(value)


def words(values: Iterable[str]) -> str:
    """The values as shell words, separated by spaces."""
    return " ".join(quote(value) for value in values)


def ssh_words(
    address: str, port: int | None = None, identity: Path | None = None, hops: Sequence[str] = ()
) -> str:
    """What a user types behind `ssh` to get to an address, `[user@]host`."""
    options = [] if port in (None, 22) else ["-p", str(port)]
    options += [] if identity is None else ["-i", str(identity)]
    options += ["-J", ",".join(hops)] if hops else []
    return words([*options, address])


def wrap(body: str, args: Iterable[str], marker: str, *, payload: bool = False) -> str:
    """The text that goes to the stdin of `sh`: `body` inside a function, with `args` as $1, $2, ….

    The shell reads its script from the same stdin that the commands inside would read, so the body is a
    function that is called on the last line, away from stdin unless a payload follows. Nothing may stand on a
    line behind that: bash and zsh read no further than they must, and it would be taken for the payload. The
    marker is printed before anything else: what came earlier is a login shell's noise.
    """
    redirect = "" if payload else " </dev/null"
    return (
        f"rbee_main() {{\nset -- {words(args)}\nprintf '\\n%s\\n' {quote(marker)}\n"
        f"{body}\n}}\nrbee_main{redirect}; exit $?\n"
    )
