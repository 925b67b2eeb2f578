"""Extra engine arguments of a preset, for the engines that take settings instead of a command line."""

from __future__ import annotations

import re

from rbee_ssh.errors import UsageInvalid

_PAIR = re.compile(r"[A-Za-z][A-Za-z0-9_-]*=")


def pairs(args: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """`name=value`, `--name=value`, `--name value` and the bare `--name` → (name, value or None).

    Names lose their leading dashes and have "_" for "-".

    Raises:
        UsageInvalid: a word that is neither a name nor the value of one.
    """
    found: list[tuple[str, str | None]] = []
    words = list(args)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not equals and not is_option(word):
            raise UsageInvalid(
                f"{word!r} among the engine arguments is neither NAME=VALUE nor an option",
                hint='write it as "name=value" or as "--name", "value"',
            )
        key = name.lstrip("-").replace("-", "_")
        if equals:
            found.append((key, value))
        elif words and not is_option(words[0]) and not _PAIR.match(words[0]):
            found.append((key, words.pop(0)))
        else:
            found.append((key, None))
    return tuple(found)


def is_option(word: str) -> bool:
    """True for `-x` and `--x`; a negative number is a value."""
    return len(word) > 1 and word[0] == "-" and not (word[1].isdigit() or word[1] == ".")
