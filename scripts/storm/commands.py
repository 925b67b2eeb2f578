"""What users do: the mix of commands, how some of them are cut short, and what may come of each."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalogue.page import classes

from nodekit import Control

INFER, CLEANUP, STOP, NOW, STATUS, LIST = "infer", "cleanup", "stop", "stop --now", "status", "list"
PULL, PUSH, COPY, REMOVE = "pull", "push", "copy", "rm"
WEIGHTS = {INFER: 12, PULL: 4, PUSH: 3, COPY: 2, CLEANUP: 3, STOP: 1, NOW: 1, STATUS: 2, LIST: 2, REMOVE: 2}
# Of several nodes, each with an error of its own; the whole has none.
MANY = (STOP, NOW, PULL, PUSH, COPY, REMOVE)
# Seconds: far over what each may take with the patience of INVENTORY below, on a busy machine.
LIMIT = 150.0
AFTER_SIGNAL = 30.0  # it has 5 s to tidy up, and may be waited for by a busy machine
SIGNALS = ("KILL", "TERM", "INT", "HUP")
INVENTORY = """
[defaults]
lease = 8
[timeouts]
connect = 4
keepalive = 2
first_token = 15
between_tokens = 10
load = 30
term = 5
download_stall = 2
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """One command of a user: its words, and the signal that it gets after some seconds, if any."""

    kind: str
    words: tuple[str, ...]
    signal: str | None = None
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended, or did not: `status` is None then. Times are monotonic seconds."""

    kind: str
    words: tuple[str, ...]
    signal: str | None  # what it got from us before it had ended
    status: int | None
    began: float
    ended: float
    out: str
    err: str

    @property
    def said(self) -> list[dict[str, Any]]:
        """The objects on stdout. One that was cut is left out: `wrong` looks at those."""
        return [said for line in self.out.splitlines() if isinstance(said := _object(line), dict)]

    @property
    def code(self) -> str:
        """The error's code; "done" where there is none; for one that we ended, how."""
        if self.signal and self.status == -getattr(signal, f"SIG{self.signal}"):
            return f"by {self.signal}"
        error = self.said[-1].get("error") if self.said else None
        return str(error.get("code", "?")) if isinstance(error, dict) else "done"

    @property
    def node(self) -> str | None:
        """The one that served, as far as was said."""
        started = self.said[0] if self.said else {}
        error = self.said[-1].get("error") if self.said else None
        details = error.get("details") if isinstance(error, dict) else None
        return started.get("node") or (details or {}).get("node")

    def __str__(self) -> str:
        said = " ".join((self.out[-600:] + self.err[-600:]).split())
        cut = f" (sent {self.signal})" if self.signal else ""
        took = self.ended - self.began
        return f"rbee {' '.join(self.words)}{cut}, status {self.status}, {took:.0f} s: {said}"


def choose(
    chance: random.Random, nodes: Sequence[str], model: Path, references: Sequence[str], own: str
) -> Choice:
    """The next command of a user. How often chance is asked does not depend on what it said.

    Args:
        own: a model in the directory that the commands run in.
    """
    kind = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    one, any_node = chance.choice(nodes), chance.random() < 0.2
    few, any_owner, everywhere = (chance.random() < share for share in (0.3, 0.5, 0.2))
    tokens, reference = str(chance.choice((1, 8, 32))), chance.choice(references)
    stored, source = chance.choice([*references, own]), chance.choice(nodes)
    way = chance.choices(((), ("--via", "here"), ("--detach",)), (7, 2, 1))[0]
    cut, name, after = chance.random() < 0.15, chance.choice(SIGNALS), chance.uniform(0, 6)
    where = () if any_node else ("--node", one)
    some = [node for node in nodes if everywhere or node == one]
    nodes_of = [word for node in some for word in ("--node", node)]
    copied_to = [word for node in some for word in ("--to", node)]
    context = ("--context", "1024") if few else ()
    words: dict[str, Sequence[str]] = {
        INFER: (
            *("infer", *where, *context, "--model", f"file://{model}", "--max-tokens", tokens),
            "Tell a story.",
        ),
        PULL: ("models", "pull", reference, *nodes_of, *way),
        PUSH: ("models", "push", own, *nodes_of),
        COPY: ("models", "copy", stored, *(() if any_node else ("--from", source)), *copied_to),
        CLEANUP: ("cleanup", "--idle", "5s", *(("--any-owner",) if any_owner else ())),
        STOP: ("workers", "stop", "--all"),
        NOW: ("workers", "stop", "--all", "--now"),
        STATUS: ("nodes", "status"),
        LIST: ("workers", "list"),
        REMOVE: ("models", "rm", stored, *nodes_of),
    }
    return Choice(kind, ("--json", *words[kind]), name if cut else None, after)


def run(control: Control, choice: Choice) -> Ran:
    """Run it to its end, or to LIMIT."""
    began = time.monotonic()
    process = control.rbee_popen(*choice.words)
    sent = None
    out = err = ""
    try:
        if choice.signal is not None:
            try:
                out, err = process.communicate(timeout=choice.after)
            except subprocess.TimeoutExpired:
                sent = choice.signal
                process.send_signal(getattr(signal, f"SIG{sent}"))
        if process.returncode is None:
            out, err = process.communicate(timeout=AFTER_SIGNAL if sent else LIMIT)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        status = None
    return Ran(choice.kind, choice.words, sent, status, began, time.monotonic(), out, err)


def _told_all(ran: Ran) -> bool:
    """Whether the signal came when all was done and said, and only the interpreter had yet to end."""
    last = ran.said[-1] if ran.said else {}
    return "error" not in last and (ran.kind != INFER or last.get("event") == "done")


def wrong(ran: Ran) -> str | None:
    """What about a command's end must never be, whatever happened; None when all is well."""
    if ran.status is None:
        return f"did not end within {AFTER_SIGNAL if ran.signal else LIMIT:.0f} s"
    if "Traceback" in ran.err + ran.out:
        # Python itself shows one for Ctrl+C before it has come to our first line.
        early = ran.signal == "INT" and not ran.out and "/rbee_ssh/" not in ran.err
        return None if early else "a traceback"
    if ran.code.startswith("by "):
        caught = ran.signal != "KILL" and ran.out and not _told_all(ran)
        return "ended by a signal that it should catch" if caught else None
    if any(_object(line) is None for line in ran.out.splitlines()):
        return "stdout is not JSON"
    known = classes()
    if strange := sorted({code for code in _codes(ran.said) if code not in known or code == "UNEXPECTED"}):
        return f"the code {', '.join(strange)}"
    if ran.code == "done":
        if ran.status not in (0, 1) or (ran.status and ran.kind not in MANY):
            return f"exit status {ran.status} without an error"
        if ran.kind == INFER and (not ran.said or ran.said[-1].get("event") != "done"):
            return "an answer without an end"
        return None
    if ran.code == "CANCELLED" and not ran.signal:
        return "cancelled by nobody"
    expected = known[ran.code].exit_status
    return None if ran.status == expected else f"{ran.code} with exit status {ran.status}"


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _codes(said: Any) -> Iterator[str]:
    """The code of every error in it, those of single nodes too."""
    if isinstance(said, dict):
        error = said.get("error")
        if isinstance(error, dict):
            yield str(error.get("code"))
        for item in said.get("failed", {}).values() if isinstance(said.get("failed"), dict) else ():
            yield str(item.get("code"))
    for item in said.values() if isinstance(said, dict) else said if isinstance(said, list) else ():
        yield from _codes(item)
