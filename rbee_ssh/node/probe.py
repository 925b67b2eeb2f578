"""All that a command asks of a node, in one round trip: facts, and the workers' records."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Unpack

from rbee_ssh.inventory import Node
from rbee_ssh.node.facts import SCRIPTS, Facts, ProbeOptions, arguments, parse_facts
from rbee_ssh.node.scripts import LIB, LOOK, OWNERS, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.script import Script

# Seconds: what facts.sh gives its programs (`enough`), and some more for a slow node and connection.
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
    + compose(OWNERS, *SCRIPTS),
    "probe",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts, and the lines that snapshot.sh printed, for workers/records.py."""

    facts: Facts
    snapshot: tuple[str, ...]


async def probe(connection: Connection, node: Node, **options: Unpack[ProbeOptions]) -> Probe:
    """Ask a node, for all its engines where `engine` is not given.

    Raises:
        NodeFault: the connection or its shell.
    """
    # The embedded node is this machine: our own interpreter may well have an engine.
    pythons = [sys.executable] if connection.embedded else []
    options.setdefault("engine", "all")
    result = await script.run(connection, BODY, arguments(node, pythons, **options), timeout=LIMIT)
    lines = result.stdout.split("\n")
    at = lines.index(_SPLIT) if _SPLIT in lines else len(lines)
    return Probe(parse_facts("\n".join(lines[at + 1 :])), tuple(lines[:at]))
