"""Whether a way leads to a worker of ours: asked once it is open, before the key or a prompt goes into it.

Another user of the node may have taken a port, or a name in /tmp, that was a worker's. Imported on the warm
path, where a socket in our own home needs no such question: what it takes is imported when it is asked.
"""

from __future__ import annotations

import functools

from rbee_ssh.registry import WorkerEntry
from rbee_ssh.ssh.connection import Connection, Proof


def proof(connection: Connection, entry: WorkerEntry) -> Proof | None:
    """What the connection is to ask before it lets anybody write to this worker; None where nobody else can
    have put anything into its place."""
    return None if entry.private else functools.partial(own, connection, entry)


async def own(connection: Connection, entry: WorkerEntry) -> bool:
    """Whether the worker runs, and has the socket or the port that is remembered of it.

    Raises:
        NodeFault: the connection or its shell.
    """
    from rbee_ssh.node.scripts import LIB, compose
    from rbee_ssh.ssh import script

    then = 'rbee_init >&2 && rbee_own "$ROOT/workers/$1" "$2" && printf "own\\t%s\\n" "$1"'
    way = entry.socket if entry.socket is not None else str(entry.port)
    result = await script.run(connection, compose(LIB, then=then), [entry.id, way], timeout=30.0)
    return f"own\t{entry.id}" in result.stdout.split("\n")
