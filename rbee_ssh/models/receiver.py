"""A node that takes a file: resumed where it stopped, summed as it comes, in its place once it is proven.

What came in lies in MODELS_DIR/.incoming/KEY.part until its SHA-256 holds. The key says which file it is; the
sum of the whole proves that a part was really its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh.errors import DiskFull, DiskShort, RbeeError, ResponseInvalid, ShellUnusable
from rbee_ssh.models import store
from rbee_ssh.models.store import Note
from rbee_ssh.node import refusals
from rbee_ssh.node.scripts import LIB, compose
from rbee_ssh.node.text import integer, plain
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.script import RunningScript
from rbee_ssh.story import Story

STORE = Path(__file__).with_name("store.sh")
RECEIVE = Path(__file__).with_name("receive.sh")
PLACE = Path(__file__).with_name("place.sh")
MIB = 2**20
SPARE = 64 * MIB  # what a disk keeps free
ANSWER = 60.0  # seconds until the node says that it is ready
BUSY_LOOK = 1.0  # seconds between two looks at another command's transfer
BUSY_STALLED = 20.0  # seconds without a byte after which that transfer is ours


@dataclass(frozen=True, slots=True)
class Placed:
    """A file in a node's store: absolute path, size in bytes, mtime in Unix seconds."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file on its way into the store of a node.

    Attributes:
        key: hexadecimal digits, the same for each transfer of this content.
        shown: its name, for people.
        sha256: None while nobody has summed it.
    """

    models_dir: str
    key: str
    size: int
    shown: str
    sha256: str | None = None


class Compare(Exception):
    """The node has a model of this size: sum the file before a byte of it is sent. Not for the user."""


class Receiver:
    """A node that waits for the bytes from `have` on."""

    def __init__(
        self, connection: Connection, incoming: Incoming, running: RunningScript, lines: AsyncIterator[str]
    ) -> None:
        self.connection = connection
        self.name = connection.name
        self.have = 0
        self._incoming = incoming
        self._running = running
        self._lines = lines

    async def send(self, data: bytes) -> bool:
        """The next bytes, waiting while the way is full; False when it takes no more, which `end` explains.

        Raises:
            ConnectionLost: the connection broke. What arrived stays for the next time.
        """
        return await self._running.send(data)

    async def end(self) -> str:
        """No more bytes. The SHA-256 of all of them as the node sees it, empty where it cannot sum.

        Raises:
            DiskFull: the partial file was removed.
            Short: bytes are missing.
            ConnectionLost: as `send`.
        """
        self._running.end_payload()
        answer = dict([line.partition("\t")[::2] async for line in self._lines])
        await self._running.finish()
        if answer.get("problem") == "full":
            raise _full(self.name, self._incoming)
        if answer.get("received") != str(self._incoming.size):
            raise Short
        return answer.get("sha256", "")


class Short(Exception):
    """The transfer was cut; its part stays. Not for the user."""


@contextlib.asynccontextmanager
async def receiving(
    connection: Connection, incoming: Incoming, story: Story, *, anew: bool = False
) -> AsyncIterator[Receiver | Placed]:
    """Make the node ready to take a file; a second command waits for the first one's transfer of it.

    Args:
        anew: forget what came in before.

    Yields:
        The receiver; or where the file is, when the node has it already.

    Raises:
        Compare: the file's SHA-256 is needed first.
        DiskShort: it will not fit.
        ShellUnusable: the store cannot be written.
        ConnectionLost, NodeFault: the way there.
    """
    how = "anew" if anew else ""
    seen, still = -1, 0.0
    while True:
        args = [incoming.models_dir, incoming.key, str(incoming.size), incoming.sha256 or "", how]
        async with script.running(connection, _text(RECEIVE), args, payload=True) as running:
            lines = running.lines()
            answer = await _first(connection, lines)
            if (placed := placed_of(answer, incoming.size)) is not None:
                yield placed
                return
            if "have" in answer:
                receiver = Receiver(connection, incoming, running, lines)
                receiver.have = min(integer(answer["have"]) or 0, incoming.size)
                _fits(connection.name, incoming, receiver.have, integer(answer.get("free")))
                yield receiver
                return
            running.end_payload()
            await running.finish()
        if "compare" in answer and incoming.sha256 is None:
            raise Compare
        if "busy" not in answer:
            raise refused(connection.name, incoming.models_dir, answer)
        # Another command sends the same file: it is fetched once.
        size = integer(answer["busy"]) or 0
        if seen < 0:
            story.say(f"another command sends {incoming.shown} to {connection.name}: waiting for it")
        seen, still = (seen, still + BUSY_LOOK) if size == seen else (size, 0.0)
        how = "take" if still >= BUSY_STALLED else ""
        story.progress(f"{incoming.shown} to {connection.name}", min(size, incoming.size - 1), incoming.size)
        await asyncio.sleep(BUSY_LOOK)


async def _first(connection: Connection, lines: AsyncIterator[str]) -> dict[str, str]:
    """What the script says before it takes bytes, or instead of it."""
    answer: dict[str, str] = {}
    try:
        async with asyncio.timeout(ANSWER):
            async for line in lines:
                key, _, value = line.partition("\t")
                answer[key] = value
                if key == "free":
                    break
    except TimeoutError:
        raise ResponseInvalid(
            f"node {connection.name!r} is not ready to take a file after {ANSWER:.0f} s",
            hint=f"rbee --verbose nodes status {connection.name}",
        ) from None
    return answer


async def place(
    connection: Connection, incoming: Incoming, where: str, note: Note, sha256: str
) -> Placed | None:
    """Put what came in into its place; None when it is not there whole.

    Args:
        where: relative to the store.

    Raises:
        ShellUnusable: the store cannot be written.
    """
    args = [incoming.models_dir, incoming.key, str(incoming.size), where, note.to_json(), sha256]
    result = await script.run(connection, _text(PLACE), args)
    answer = dict(line.partition("\t")[::2] for line in result.stdout.split("\n"))
    placed = placed_of(answer, incoming.size)
    if placed is None and answer.get("problem") != "short":
        raise refused(connection.name, store.in_store(incoming.models_dir, where), answer)
    return placed


async def forget(connection: Connection, incoming: Incoming) -> None:
    """Remove what came in and is not what was sent."""
    args = [incoming.models_dir, incoming.key, str(incoming.size), "", "", "away"]
    await script.run(connection, _text(PLACE), args)


def placed_of(answer: Mapping[str, str], size: int) -> Placed | None:
    """Where a node says the file is, None when it says nothing of the kind; it may say anything."""
    path, mtime = plain(answer.get("path", "")), integer(answer.get("mtime"))
    if not path.startswith("/") or answer.get("size") != str(size) or mtime is None:
        return None
    return Placed(path, size, mtime)


def refused(node: str, path: str, answer: Mapping[str, str]) -> RbeeError:
    """Why a script of the store did nothing."""
    if "locked" in answer:
        return refusals.locked(node, plain(answer["locked"], 200) or "?")
    if answer.get("problem", "directory") != "directory":
        return refusals.unwritable(node, plain(answer["problem"], 500))
    return ShellUnusable(
        f"node {node!r}: {path} cannot be written",
        hint=f"set models_dir for {node} in the inventory to a directory of that login's",
        details={"node": node, "path": path},
    )


def _fits(node: str, incoming: Incoming, have: int, free_kib: int | None) -> None:
    need = incoming.size - have
    if free_kib is None or free_kib * 1024 >= need + SPARE or need == 0:
        return
    free = free_kib * 1024
    raise DiskShort(
        f"node {node!r} has {free // MIB} MiB free for models, {incoming.shown} needs {need // MIB + 1} MiB",
        hint=f"rbee models prune --older-than 30d --node {node}   # or set models_dir in the inventory",
        details={"node": node, "need_bytes": need, "free_bytes": free},
    )


def _full(node: str, incoming: Incoming) -> DiskFull:
    return DiskFull(
        f"node {node!r}: the disk filled while {incoming.shown} was written; what had arrived was removed",
        hint=f"rbee models prune --older-than 30d --node {node}   # or set models_dir in the inventory",
        details={"node": node, "need_bytes": incoming.size},
    )


def _text(path: Path) -> str:
    return compose(LIB, STORE, path)
