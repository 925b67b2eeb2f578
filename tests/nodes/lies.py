"""What the tests of lying nodes share: the commands, and what holds for each of their ends."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from nodes.liar import MODEL, WORKER
from nodes.measured import MIB, Measured, measured

from nodekit import Control

LIMIT = 150 * MIB
TIMEOUTS = "[timeouts]\nconnect = 5\nconnect_tries = 1\nstart = 5\nhttp_connect = 3\nbetween_tokens = 2\n"
GARBAGE = random.Random(7).randbytes(3000)
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;aWQ=\x1b\\\x9b31m\u202e\u2066\u2028\x08\r\x00\x7f"
COMMANDS = {
    "status": ("nodes", "status"),
    "check": ("nodes", "check"),
    "run": ("nodes", "run", "--", "true"),
    "list": ("workers", "list"),
    "logs": ("workers", "logs", WORKER),
    "stop": ("workers", "stop", WORKER),
    "stop all": ("workers", "stop", "--all", "--any-owner"),
    "models": ("models", "list"),
    "show": ("models", "show", MODEL),
    "cleanup": ("cleanup",),
    "infer": ("infer", "--model", MODEL, "hi"),
}
# Each its own way to what a node says: script.run, script.running, a table of rows, an error of the command.
FEW = ("status", "check", "models", "infer")


_STEER = ("Cc", "Cs", "Zl", "Zp")
_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def steers(text: bytes) -> list[str]:
    """What of this output steers a terminal: control characters, ends of lines, directions of text."""
    return [
        c for c in text.decode() if c not in "\n\t" and (c in _MARKS or unicodedata.category(c) in _STEER)
    ]


def sound(answer: Measured, *, raw: bool = False) -> Measured:
    """The command ended by itself, in little memory, with an end that we know, and steers no terminal.

    Args:
        raw: its output is passed on as it came: into a pipe, and not as JSON.
    """
    told = answer.stdout[:2000] + answer.stderr[:2000]
    assert answer.status in (0, 1, 2, 3, 137), (answer.status, told)
    assert answer.peak <= LIMIT, f"{answer.peak // MIB} MiB"
    assert raw or steers(answer.stdout + answer.stderr) == [], told
    assert b"Traceback" not in answer.stderr and b"UNEXPECTED" not in answer.stdout, told
    return answer


def ask(control: Control, names: Sequence[str], *options: str) -> dict[str, Measured]:
    """These commands, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda name: measured(control, *options, *COMMANDS[name], limit=45), names)
        return dict(zip(names, map(sound, ends), strict=True))
