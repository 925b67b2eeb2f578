"""A worker's log, as its node has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rbee_ssh.errors import ResponseInvalid
from rbee_ssh.ssh import script
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers.listing import find_worker
from rbee_ssh.workers.types import Worker

# A node cuts a log at 8 MiB (supervise.sh), when its supervisor ticks the next time.
MAX_LOG = 16 * 2**20
PATIENCE = 60.0  # seconds for the end of a log, and one more for each KiB
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
    pool: ConnectionPool, worker_id: str, *, follow: bool, lines: int, write: Callable[[bytes], None]
) -> None:
    """Write the last lines of the log, and with `follow` what comes, until cancelled.

    Raises:
        WorkerUnknown: no such worker.
        NodeFault: its node.
        ResponseInvalid: the log cannot be read there, or, without `follow`, does not end.
    """
    worker = await find_worker(pool, worker_id)
    connection = await pool.connect(worker.node)
    body = _FOLLOW if follow else 'tail -n "$2" "$1"'
    loop = asyncio.get_running_loop()
    began, length = loop.time(), 0
    try:
        async with (
            asyncio.timeout(None if follow else PATIENCE) as limit,
            script.running(connection, body, [worker.log, str(lines)], payload=follow) as running,
        ):
            while data := await running.read():
                write(data)
                length += len(data)
                if not follow:
                    limit.reschedule(began + PATIENCE + length / 1024)
                    if length > MAX_LOG:
                        raise _unreadable(worker, f"more than {MAX_LOG} bytes came")
            status, error = await running.finish()
    except TimeoutError:
        raise _unreadable(worker, "it does not end") from None
    if status and not follow:
        raise _unreadable(worker, error.strip() or f"exit status {status}")


def _unreadable(worker: Worker, why: str) -> ResponseInvalid:
    return ResponseInvalid(
        f"node {worker.node!r}: {worker.log} cannot be read: {why}",
        hint=f"rbee workers list --node {quote(worker.node)}",
        details={"node": worker.node, "worker": worker.id},
    )
