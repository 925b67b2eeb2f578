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
    settings: list[tuple[str, str | None]] = []
    words = list(args)
    while words:
        word = words.pop(0)
        name, equals, text = word.partition("=")
        value = text if equals else None
        if value is None and not _is_option(word):
            raise UsageInvalid(
                f"{word!r} among the engine arguments is neither NAME=VALUE nor an option",
                hint='write it as "name=value" or as "--name", "value"',
            )
        if value is None and words and not _is_option(words[0]) and not _PAIR.match(words[0]):
            value = words.pop(0)
        settings.append((name.lstrip("-").replace("-", "_"), value))
    return tuple(settings)


def _is_option(word: str) -> bool:
    """True for `-x` and `--x`; a negative number is a value."""
    return len(word) > 1 and word[0] == "-" and not (word[1].isdigit() or word[1] == ".")
