"""Everything a command wants to know of a node, in one round trip: facts, and the workers' records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.inventory import Node
from rbee_ssh.node.facts import SCRIPTS, Facts, arguments, parse_facts
from rbee_ssh.node.scripts import LIB, LOOK, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.script import Script

# Seconds: what facts.sh gives its programs (`enough`), and some more for a slow node and the way there.
LIMIT = 30.0
_SPLIT = "section\tfacts"
BODY = Script(
    compose(
        LIB,
        LOOK,
        then="rbee_init && rbee_sweep && rbee_show_all && "
        "case $5 in *brief*) ;; *) rbee_sockets && printf 'sockets\\t%s\\n' \"$SOCKETS\" ;; esac\n"
        "printf 'section\\tfacts\\n'",
    )
    + compose(*SCRIPTS),
    "probe",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts, and the lines that look.sh printed (read by the workers room)."""

    facts: Facts
    look: tuple[str, ...]


async def probe(
    connection: Connection,
    node: Node,
    *,
    model_path: str = "",
    engine: str = "all",
    backend: str = "auto",
    device: str | None = None,
    brief: bool = False,
    known_header: str | None = None,
    sums: Sequence[str] = (),
) -> Probe:
    """Ask a node.

    Args:
        model_path: a file to look for, absolute or with a leading ~/; empty for none.
        engine: "all", "auto" (up to the first that runs), one engine's name, or "none": what changes from one
            look to the next, and no more.
        backend, device: what the worker asks for; a GPU's makes every engine tell its devices.
        brief: for a table of many nodes; see facts.arguments.
        known_header, sums: of the model file; see facts.arguments.

    Raises:
        NodeFault: the connection or its shell.
    """
    args = arguments(
        node,
        model_path=model_path,
        engine=engine,
        backend=backend,
        device=device,
        brief=brief,
        known_header=known_header,
        sums=sums,
        # The embedded node is this machine: our own interpreter may well have an engine.
        pythons=[sys.executable] if connection.embedded else [],
    )
    result = await script.run(connection, BODY, args, timeout=LIMIT)
    lines = result.stdout.split("\n")
    at = lines.index(_SPLIT) if _SPLIT in lines else len(lines)
    return Probe(parse_facts("\n".join(lines[at + 1 :])), tuple(lines[:at]))
