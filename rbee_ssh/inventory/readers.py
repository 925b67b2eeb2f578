"""How one value of inventory.toml is read. A reader takes what TOML gave and complains about what is wrong.

What a value was is repeated only where it cannot be a secret: a complaint ends up in terminals and logs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rbee_ssh.wording import has_control, nearest, quoted

# Python refuses to write out integers of thousands of digits, which TOML allows in hexadecimal.
_WRITABLE = 10**20


Where = tuple[str | int, ...]  # ("nodes", "a", "tags", 1) is the second tag of node a


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to mend. An empty `where` is the file itself; `line` counts from 1, None where unknown."""

    where: Where
    problem: str
    line: int | None = None


class Complain(Protocol):
    def __call__(self, problem: str, *below: str | int) -> None:
        """Say what is wrong with the value, or with the part of it at `below`."""
        ...


# What a reader returns is used only when it complained about nothing.
Reader = Callable[[object, Complain], Any]
# Why a text will not do, None when it will.
Check = Callable[[str], str | None]


def kind(value: object) -> str:
    """The TOML type of a value, in words."""
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    names |= {list: "an array", dict: "a table"}
    return names.get(type(value), "a date or time")


def shown(value: str | int | float) -> str:
    """The value, short enough for a line."""
    if isinstance(value, str):
        return quoted(value)
    return str(value) if abs(value) < _WRITABLE or isinstance(value, float) else "a far larger number"


def string(expected: str, check: Check = lambda text: None) -> Reader:
    """A string without control characters that passes `check`; empty ones are refused."""

    def read(value: object, complain: Complain) -> str:
        if not isinstance(value, str):
            complain(f"expected {expected}, got {kind(value)}")
            return ""
        if not value:
            complain(f"expected {expected}, got an empty string")
        elif has_control(value):
            complain(f"expected {expected}, without control characters")
        elif problem := check(value):
            complain(problem)
        return value

    return read


def strings(expected: str, reader: Reader) -> Reader:
    """An array whose every element passes `reader`."""

    def read(value: object, complain: Complain) -> tuple[str, ...]:
        if not isinstance(value, list):
            complain(f"expected an array of {expected}, got {kind(value)}")
            return ()

        def at(index: int) -> Complain:
            return lambda problem, *below: complain(problem, index, *below)

        return tuple(reader(element, at(index)) for index, element in enumerate(value))

    return read


def argument(value: object, complain: Complain) -> str:
    """One engine argument, passed as it stands: a grammar has line breaks. Only NUL ends an argument."""
    if not isinstance(value, str):
        complain(f"expected a string, got {kind(value)}")
        return ""
    if "\0" in value:
        complain("expected an argument without NUL")
    return value


def choice(known: Sequence[str]) -> Reader:
    """One of the known words."""
    expected = "one of " + ", ".join(quoted(word) for word in known)

    def check(text: str) -> str | None:
        if text in known:
            return None
        near = nearest(text, known)
        return f"expected {expected}, got {quoted(text)}" + (
            f"; did you mean {quoted(near)}?" if near else ""
        )

    return string(expected, check)


def integer(low: int, high: int = 2**31 - 1) -> Reader:
    """A whole number; the default upper end is the largest a C int holds."""
    expected = f"an integer from {low} to {high}"

    def read(value: object, complain: Complain) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            complain(f"expected {expected}, got {kind(value)}")
            return low
        if not low <= value <= high:
            complain(f"expected {expected}, got {shown(value)}")
        return value

    return read


def seconds(*, zero: bool = False) -> Reader:
    """A duration in seconds; 0 only where `zero` says that it has a meaning."""

    def read(value: object, complain: Complain) -> float:
        from rbee_ssh import durations

        if not isinstance(value, str | int | float) or isinstance(value, bool):
            complain(f"expected {durations.FORMS}, got {kind(value)}")
            return 0.0
        try:
            span = durations.duration(value)
        except ValueError as error:
            complain(f"{error}, got {shown(value)}")
            return 0.0
        if span == 0 and not zero:
            complain("expected more than 0 seconds")
        return span

    return read


def device(value: object, complain: Complain) -> str:
    """Indices of the backend's devices, 0 or "0,1", as "0,1"."""
    expected = 'an index such as 0, or several as in "0,1"'
    if isinstance(value, bool) or not isinstance(value, int | str):
        complain(f"expected {expected}, got {kind(value)}")
        return ""
    text = re.sub(r"\s*,\s*", ",", str(value).strip()) if isinstance(value, str) or 0 <= value < 1000 else ""
    if not re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", text):
        complain(f"expected {expected}")
    elif len(set(text.split(","))) != len(text.split(",")):
        complain(f"expected every index once, got {quoted(text)}")
    return text


def environment(value: object, complain: Complain) -> dict[str, str]:
    """Variables of the engine's environment. Their values are never repeated: they may be secrets."""
    if not isinstance(value, dict):
        complain(f"expected a table of variables, got {kind(value)}")
        return {}
    variables: dict[str, str] = {}
    for name, content in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            complain("expected a variable's name: letters, digits and _, no digit first", name)
        elif name.startswith("RBEE_"):
            complain("names that start with RBEE_ are rbee's own", name)
        if isinstance(content, str) and "\0" in content:
            complain("expected a value without NUL", name)
        elif isinstance(content, str):
            variables[name] = content
        elif isinstance(content, int) and not isinstance(content, bool) and abs(content) < _WRITABLE:
            variables[name] = str(content)
        else:
            complain(f"expected a string, got {kind(content)}", name)
    return variables


_NAME = "letters, digits, '.', '_' and '-', the first a letter, a digit or '_'"
# What OpenSSH refuses in a destination since CVE-2023-51385 (ssh.c: valid_hostname, valid_ruser).
_SHELL_IN_HOST = frozenset("'`\"$\\;&<>|(){}")
_SHELL_IN_USER = frozenset("'`\";&<>|(){}")


def name_problem(text: str) -> str | None:
    """A node's, preset's or tag's name: usable on a command line and in a file name, in any language."""
    if not text:
        return "expected a name, got an empty one"
    if len(text.encode(errors="replace")) > 100:
        return "expected a name of at most 100 bytes"
    letter = all(char in "._-" or unicodedata.category(char)[0] in "LM" or char.isdecimal() for char in text)
    if not letter or text[0] in ".-" or unicodedata.category(text[0])[0] == "M":
        return f"expected a name made of {_NAME}"
    return None


def preset_name_problem(text: str) -> str | None:
    """As a node's name, and not to be mistaken for a file."""
    if text.lower().endswith(".gguf"):
        return "expected a name that does not end in .gguf: that is how a file is told from a preset"
    return name_problem(text)


def host_problem(text: str) -> str | None:
    """An address, a host name or an ssh_config alias, without user and port."""
    if problem := _word_problem(text, "a host", _SHELL_IN_HOST):
        return problem
    if "@" in text:
        user, _, host = text.rpartition("@")
        return f"expected a host alone: host = {quoted(host)} and user = {quoted(user)}"
    if match := re.fullmatch(r"([^:]+):([0-9]+)", text):
        return f"expected a host alone: host = {quoted(match[1])} and port = {match[2][:6]}"
    if "," in text or text.startswith("["):
        return "expected one host, an IPv6 address without brackets"
    # OpenSSH lets them pass. A shell in ssh_config's ProxyCommand makes file names of them, and options of
    # those: of what lies in the current directory, as a found inventory does.
    if set(text) & set("*?[]"):
        return "expected one host, not a pattern"
    return None


def user_problem(text: str) -> str | None:
    """A login name."""
    if problem := _word_problem(text, "a user name", _SHELL_IN_USER):
        return problem
    return "expected a user name without '@' and ','" if set(text) & set("@,") else None


def hop_problem(text: str) -> str | None:
    """A jump host: the name of a node, or `[user@]host[:port]` as ProxyJump has it."""
    form = "expected a node's name or [user@]host[:port]"
    if not text:
        return f"{form}, got an empty one"
    user, at, place = text.removeprefix("ssh://").rpartition("@")
    if at and (problem := user_problem(user) if user else form):
        return problem
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?", place)
    if not match:
        return form + (", an IPv6 address in brackets" if place.count(":") > 1 else "")
    if problem := host_problem(match[1] or match[2]):
        return problem
    if match[3] and not 1 <= int(match[3]) <= 65535:
        return f"expected a port from 1 to 65535, got {match[3]}"
    return None


def program_problem(text: str) -> str | None:
    """A program on the node: a bare name that its PATH knows, or an absolute path."""
    if "/" not in text:
        return "expected a program, got a leading '-'" if text.startswith("-") else None
    return node_path_problem(text)


def node_path_problem(text: str) -> str | None:
    """A path on the node. A relative one would depend on where the login shell happens to start."""
    if text.startswith(("/", "~/")):
        return None
    return f"expected a path that starts with / or ~/, got {quoted(text)}"


def task_problem(text: str) -> str | None:
    """A Fabric task: FILE.py:NAME."""
    if re.fullmatch(r".+\.py:[^\W\d]\w*", text):
        return None
    return f'expected a task such as "recipes.py:driver", got {quoted(text)}'


def _word_problem(text: str, what: str, refused: frozenset[str]) -> str | None:
    if text.startswith("-"):
        return f"expected {what}, got a leading '-'"
    if has_control(text) or any(char.isspace() for char in text):
        return f"expected {what} without white space and control characters"
    if bad := sorted(refused & set(text)):
        return f"expected {what} without {' '.join(bad)}"
    if len(text) > 255:
        return f"expected {what} of at most 255 characters"
    return None
