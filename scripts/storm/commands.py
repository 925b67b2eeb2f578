"""What users do: the mix of commands, and what may come of each."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalogue.page import classes

from nodekit import Control

INFER, CLEANUP, STOP, NOW, STATUS, LIST = "infer", "cleanup", "stop", "stop --now", "status", "list"
WEIGHTS = {INFER: 12, CLEANUP: 3, STOP: 1, NOW: 1, STATUS: 2, LIST: 2}
# Seconds: far over what each may take with the patience of INVENTORY below, on a busy machine.
LIMIT = 150.0
INVENTORY = (
    "[timeouts]\nconnect = 4\nkeepalive = 2\nfirst_token = 15\nbetween_tokens = 10\nload = 30\nterm = 5\n"
)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended, or did not: `status` is None then. Times are monotonic seconds."""

    kind: str
    words: tuple[str, ...]
    node: str | None  # the one that served, as far as was said
    status: int | None
    began: float
    ended: float
    out: str
    err: str

    @property
    def last(self) -> dict[str, Any]:
        """The last object on stdout."""
        try:
            said = json.loads(self.out.splitlines()[-1])
        except (ValueError, IndexError):
            return {}
        return said if isinstance(said, dict) else {}

    @property
    def code(self) -> str:
        """The error's code; "done" where there is none."""
        error = self.last.get("error")
        return str(error.get("code", "?")) if isinstance(error, dict) else "done"


def choose(chance: random.Random, nodes: Sequence[str], model: Path) -> tuple[str, list[str]]:
    """A kind of command, and its words."""
    kind = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    where = ["--node", chance.choice(nodes)] if chance.random() < 0.8 else []
    tokens = str(chance.choice((1, 8, 32)))
    words = {
        INFER: ["infer", *where, "--model", f"file://{model}", "--max-tokens", tokens, "Tell a story."],
        CLEANUP: ["cleanup", "--idle", "5s", *(["--any-owner"] if chance.random() < 0.5 else [])],
        STOP: ["workers", "stop", "--all"],
        NOW: ["workers", "stop", "--all", "--now"],
        STATUS: ["nodes", "status"],
        LIST: ["workers", "list"],
    }[kind]
    return kind, ["--json", *words]


def run(control: Control, kind: str, words: Sequence[str]) -> Ran:
    """Run it to its end, or to LIMIT."""
    began = time.monotonic()
    try:
        done = control.rbee(*words, timeout=LIMIT)
        status, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        status, out, err = None, "", ""
    node = None
    if kind == INFER and out:
        node = json.loads(out.splitlines()[0]).get("node")
    return Ran(kind, tuple(words), node, status, began, time.monotonic(), out, err)


def wrong(ran: Ran) -> str | None:
    """What about a command's end must never be, whatever happened; None when all is well."""
    if ran.status is None:
        return f"did not end within {LIMIT:.0f} s"
    if "Traceback" in ran.err + ran.out:
        return "a traceback"
    if ran.status not in (0, 1):
        return f"exit status {ran.status}"
    known = classes()
    if ran.code == "done":
        if ran.status != 0 and ran.kind not in (STOP, NOW):
            return "failed without an error"
        if ran.kind == INFER and ran.last.get("event") != "done":
            return "an answer without an end"
        return None
    if ran.code not in known or ran.code == "UNEXPECTED":
        return f"the code {ran.code}"
    return None if ran.status == known[ran.code].exit_status else f"{ran.code} with exit status {ran.status}"
