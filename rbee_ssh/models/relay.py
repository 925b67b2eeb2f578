"""One file from a node to others, through here: read once, never on this disk, a few MiB of it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from rbee_ssh.errors import ChecksumMismatch, ConnectionLost, ModelNotFound, RbeeError
from rbee_ssh.models import receiver
from rbee_ssh.models.receiver import MIB, Busy, Incoming, Placed, Short
from rbee_ssh.models.transfer_progress import TransferProgress
from rbee_ssh.reporter import Reporter
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection

SEND = 'dd if="$1" bs=1048576 skip="$2" 2>/dev/null'
PIECE = MIB // 2
PIECES_AHEAD = 4  # for each receiver; the slowest of them sets the pace of all


@dataclass(frozen=True, slots=True)
class Target:
    """A node that gets the file, and what it is told about it."""

    connection: Connection
    incoming: Incoming


@dataclass(slots=True)
class _Feed:
    """The way from the one reader to one receiver."""

    target: Target
    have: asyncio.Future[int | None]  # the offset it wants bytes from; None: it wants none
    pieces: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(PIECES_AHEAD))


async def relay(
    origin: Connection, path: str, targets: Sequence[Target], reporter: Reporter, tally: TransferProgress
) -> Mapping[str, Placed | str | RbeeError]:
    """Bring a file of `origin` to other nodes at once; each goes on where an earlier transfer stopped.

    Returns:
        For each node where it has the file already, or the SHA-256 of what arrived (empty where it cannot
        sum), or why nothing did. Of several, those are left out to which another command is just sending the
        file: they are to be asked one by one, when no other node is held.

    Raises:
        ConnectionLost, SessionLimit, ShellUnusable: the way to `origin`, or it sends nothing any more.
        ModelNotFound: the file is not there, or shorter than it was.
    """
    loop, wait = asyncio.get_running_loop(), len(targets) == 1
    feeds = [_Feed(target, loop.create_future()) for target in targets]
    taking = {
        feed.target.connection.name: asyncio.create_task(_take(feed, origin.name, reporter, wait=wait))
        for feed in feeds
    }
    try:
        await _pump(origin, path, feeds, tally)
        for feed in feeds:
            await feed.pieces.put(None)
        await asyncio.gather(*taking.values())
        results = {name: task.result() for name, task in taking.items()}
        return {name: result for name, result in results.items() if result is not None}
    finally:
        for task in taking.values():
            task.cancel()
        await asyncio.gather(*taking.values(), return_exceptions=True)


async def _take(
    feed: _Feed, origin: str, reporter: Reporter, *, wait: bool
) -> Placed | str | RbeeError | None:
    """One receiver, from its first word to its sum; None for one that would have to be waited for. Whatever
    happens, it takes pieces until the last one."""
    ended = False
    connection, incoming = feed.target.connection, feed.target.incoming
    try:
        async with receiver.receiving(connection, incoming, reporter, wait=wait) as ready:
            if isinstance(ready, Placed):
                return ready
            feed.have.set_result(ready.have)
            way, mib = f"from {origin} to {connection.name}", f"{incoming.size // MIB} MiB"
            if ready.have:
                reporter.say(f"copying {incoming.shown} {way}: {ready.have // MIB} of {mib} are there")
            else:
                reporter.say(f"copying {incoming.shown} ({mib}) {way}")
            takes = True
            while (piece := await feed.pieces.get()) is not None:
                takes = takes and await ready.send(piece)
            ended = True
            return await ready.end()
    except Busy:
        return None
    except Short as error:
        if error.moved and not wait:
            return None  # by another command: it is there when it is asked about again
        return ConnectionLost(
            f"{incoming.shown} did not arrive whole on node {connection.name!r}",
            hint="run the command again: it goes on where it stopped",
            details={"node": connection.name},
        )
    except RbeeError as error:
        return error
    finally:
        if not feed.have.done():
            feed.have.set_result(None)
        while not ended and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
            ended = await feed.pieces.get() is None


async def _pump(origin: Connection, path: str, feeds: Sequence[_Feed], tally: TransferProgress) -> None:
    """Read the file once, from the first byte that somebody lacks, and hand it to all who lack it."""
    wants = {id(feed): await feed.have for feed in feeds}
    hungry = [(feed, have) for feed in feeds if (have := wants[id(feed)]) is not None]
    if not hungry:
        return
    size = hungry[0][0].target.incoming.size
    at = min(have for _, have in hungry) // MIB * MIB
    async with script.running(origin, SEND, [path, str(at // MIB)]) as running:
        async for piece in _pieces(origin, path, running, size - at):
            for feed, have in hungry:
                skip = max(0, have - at)
                if skip < len(piece):
                    await feed.pieces.put(piece[skip:] if skip else piece)
                tally.count(feed.target.connection.name, path, max(have, at + len(piece)))
            at += len(piece)
    if at != size:
        raise ModelNotFound(
            f"{path} on node {origin.name!r} ended after {at} of {size} bytes",
            hint=f"rbee models verify --node {origin.name}",
            details={"node": origin.name, "path": path},
        )


async def _pieces(
    origin: Connection, path: str, running: script.RunningScript, left: int
) -> AsyncIterator[bytes]:
    """What the node sends, in pieces worth a round through the event loop; no more than `left` bytes."""
    node, stall = origin.name, origin.timeouts.download_stall
    pending = bytearray()
    while left > 0:
        try:
            async with asyncio.timeout(stall):
                data = await running.read()
        except TimeoutError:
            raise ConnectionLost(
                f"node {node!r} sent nothing of {path} for {stall:.0f} s; a disk may hang",
                hint="run the command again: it goes on where it stopped",
                details={"node": node, "path": path},
            ) from None
        if not data:
            break
        pending += data[:left]
        left -= min(left, len(data))
        if len(pending) >= PIECE:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def differs(node: str, shown: str, origin: str, expected: str, got: str) -> ChecksumMismatch:
    """What arrived has another SHA-256, twice; or `got` is empty: the node that got it cannot sum."""
    details = {"node": node, "expected": expected, "got": got}
    if not got:
        return ChecksumMismatch(
            f"node {node!r} has no SHA-256 program, so {shown} from {origin} cannot be proven",
            hint="install openssl or python3 there, or bring it from here: rbee models push",
            details=details,
        )
    return ChecksumMismatch(
        f"node {node!r}: {shown} from {origin} differs from its SHA-256 after two tries",
        hint=f"rbee models verify {expected[:12]} --node {origin}",
        details=details,
    )
