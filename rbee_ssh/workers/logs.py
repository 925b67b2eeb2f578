"""A worker's log, as its node has it."""

from __future__ import annotations

from collections.abc import Callable

from rbee_ssh.errors import NodeFault
from rbee_ssh.ssh import script
from rbee_ssh.workers.fleet import Fleet
from rbee_ssh.workers.listing import find_worker

# A following tail must outlive neither us nor the worker: it ends when its stdin, our channel, does, and when
# the worker's exit status is there or its record is gone.
_FOLLOW = """
exec 3<&0
tail -n "$2" -F "$1" 2>/dev/null 3<&- & TAIL=$!
(cat <&3; kill "$TAIL") >/dev/null 2>&1 & OURS=$!
(exec 3<&-; while [ -e "$1" ] && [ ! -e "${1%/*}/exit" ]; do sleep 1; done; sleep 1; kill "$TAIL") \\
    >/dev/null 2>&1 & THEIRS=$!
trap 'kill "$TAIL" "$OURS" "$THEIRS" 2>/dev/null' EXIT
trap 'exit 0' HUP INT TERM PIPE
wait "$TAIL"
"""


async def follow_log(
    fleet: Fleet, worker_id: str, *, follow: bool, lines: int, write: Callable[[bytes], None]
) -> None:
    """Write the last lines of the log, and with `follow` what comes, until cancelled.

    Raises:
        WorkerUnknown: no such worker.
        NodeFault: its node.
    """
    worker = await find_worker(fleet, worker_id)
    connection = await fleet.connect(worker.node)
    body = _FOLLOW if follow else 'tail -n "$2" "$1"'
    async with script.running(connection, body, [worker.log, str(lines)], payload=follow) as running:
        while data := await running.read():
            write(data)
        status, error = await running.finish()
    if status and not follow:
        raise NodeFault(
            f"node {worker.node!r}: {worker.log} cannot be read: {error.strip() or f'exit status {status}'}",
            hint=f"rbee workers list --node {worker.node}",
        )
