"""Whether a connection leads to a worker of ours: asked once it is open, before the key or a prompt goes into
it.

Another user of the node may have taken a port, or a name in /tmp, that was a worker's.
"""

from __future__ import annotations

from rbee_ssh.node.scripts import LIB, compose
from rbee_ssh.registry import WorkerEntry
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection

BODY = compose(LIB, then='rbee_init >&2 && rbee_own "$ROOT/workers/$1" "$2" && printf "own\\t%s\\n" "$1"')


async def own(connection: Connection, entry: WorkerEntry) -> bool:
    """Whether the worker runs, and has the socket or the port that is remembered of it.

    Raises:
        NodeFault: the connection or its shell.
    """
    address = entry.socket if entry.socket is not None else str(entry.port)
    result = await script.run(connection, BODY, [entry.id, address], timeout=30.0)
    return f"own\t{entry.id}" in result.stdout.split("\n")
