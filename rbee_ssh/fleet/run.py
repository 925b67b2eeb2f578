"""`nodes run`: one command on many nodes at once, its output by lines as it comes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh.concurrency import gather_or_cancel
from rbee_ssh.errors import DiskFull, RbeeError
from rbee_ssh.node import scripts
from rbee_ssh.ssh import script
from rbee_ssh.ssh.pool import ConnectionPool

BODY = scripts.compose(scripts.SESSION, Path(scripts.__file__).with_name("command.sh"))
LONGEST = 64 * 1024  # bytes: a line that is longer comes in pieces
_NOISE = 256 * 1024  # bytes of a login shell's on stderr

OnLine = Callable[[str, str, bytes], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended on a node: its exit status (128 + n after signal n), or why there is none."""

    name: str
    seconds: float
    status: int | None = None
    error: RbeeError | None = None


def worst(ends: Sequence[Ended]) -> int:
    """The exit status for all of them: the highest; a node without one counts as 1."""
    return max((1 if end.status is None else end.status for end in ends), default=0)


async def run_on(
    pool: ConnectionPool,
    names: Sequence[str],
    words: Sequence[str],
    on_line: OnLine,
    on_end: Callable[[Ended], None],
) -> list[Ended]:
    """Run a command on these nodes, all at the same time. A node that is down does not stop the others.

    When this is cancelled, the commands are ended: TERM to their process groups, KILL after two seconds.

    Args:
        words: a program and its arguments, or one line for the login shell.
        on_line: gets the node, "stdout" or "stderr", and a line without its line feed.
        on_end: gets each node's end as it comes.

    Raises:
        Exception: what these two raise; then the commands are ended, too.
    """

    async def ended(name: str) -> Ended:
        began, status, failure = time.monotonic(), None, None
        try:
            status = await _run(pool, name, words, on_line)
        except DiskFull:
            raise  # stdout's: no node is at fault
        except RbeeError as error:
            failure = error
        end = Ended(name, time.monotonic() - began, status, failure)
        on_end(end)
        return end

    return await gather_or_cancel(ended(name) for name in names)


async def _run(pool: ConnectionPool, name: str, words: Sequence[str], on_line: OnLine) -> int:
    connection = await pool.connect(name, tries=None)
    mark = secrets.token_hex(8)
    async with script.running(connection, BODY, [mark, *words], payload=True, errors=True) as running:
        await gather_or_cancel(
            [
                _lines(running.read, lambda line: on_line(name, "stdout", line)),
                _lines(running.read_errors, lambda line: on_line(name, "stderr", line), mark.encode()),
            ]
        )
        status, _ = await running.finish()
        return status


async def _lines(
    read: Callable[[], Awaitable[bytes]], on_line: Callable[[bytes], None], mark: bytes | None = None
) -> None:
    lines = Lines()
    data = await (_behind(read, mark) if mark else read())
    while data:
        for line in lines.feed(data):
            on_line(line)
        data = await read()
    for line in lines.close():
        on_line(line)


async def _behind(read: Callable[[], Awaitable[bytes]], mark: bytes) -> bytes:
    """The first bytes behind the line of the mark. Too much noise before it is passed over without it."""
    noise, rest = b"", b""
    while len(noise) <= _NOISE and (data := await read()):
        noise, found, rest = (noise + data).partition(b"\n" + mark + b"\n")
        if found:
            break
    return rest or await read()


class Lines:
    """Bytes in, lines out, none longer than LONGEST."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that this completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        return [line[at : at + LONGEST] for line in lines for at in range(0, len(line) or 1, LONGEST)]

    def close(self) -> list[bytes]:
        """The last line, when it lacks its end."""
        return [self._rest] if self._rest else []
