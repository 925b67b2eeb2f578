"""Which texts will do as a name, a host, a user, a hop, a path on a node. Each answers None or why not.

None of them ever meets a shell of ours. But ssh_config may hand host and user to one (`ProxyCommand`,
`Match exec`), and a leading `-` makes an option of a word wherever it ends up in an argument list.
"""

from __future__ import annotations

import re
import unicodedata

from rbee_ssh.wording import has_control, quoted

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
    if found := re.fullmatch(r"([^:]+):([0-9]+)", text):
        return f"expected a host alone: host = {quoted(found[1])} and port = {found[2][:6]}"
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
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?", place)
    if not found:
        return form + (", an IPv6 address in brackets" if place.count(":") > 1 else "")
    if problem := host_problem(found[1] or found[2]):
        return problem
    if found[3] and not 1 <= int(found[3]) <= 65535:
        return f"expected a port from 1 to 65535, got {found[3]}"
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
