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

from rbee_ssh.errors import (
    ChecksumMismatch,
    ConnectionLost,
    DiskFull,
    DiskShort,
    RbeeError,
    ResponseInvalid,
    ShellUnusable,
)
from rbee_ssh.models import store
from rbee_ssh.models.store import Note
from rbee_ssh.node import script_errors
from rbee_ssh.node.scripts import LIB, compose
from rbee_ssh.node.untrusted_text import integer, plain
from rbee_ssh.reporter import Reporter
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.quote import quote
from rbee_ssh.ssh.script import RunningScript

STORE = Path(__file__).with_name("store.sh")
RECEIVE = Path(__file__).with_name("receive.sh")
PLACE = Path(__file__).with_name("place.sh")
TAKE = Path(__file__).with_name("node_receiver.py")
FOUND = 'rbee_find_note "$2" "$3"; [ -z "$NOTE" ] || rbee_stored "${NOTE%.json}"'
FIND = compose(LIB, STORE, then=f'rbee_store "$1"; {FOUND}')
MIB = 2**20
SPARE = 64 * MIB  # what a disk keeps free
ANSWER = 60.0  # seconds until the node says that it is ready
SUM_SECONDS = 3600.0  # for the sum of a file
BUSY_LOOK = 1.0  # seconds between two looks at another command's transfer
BUSY_STALLED = 20.0  # seconds without a byte after which that transfer is ours


@dataclass(frozen=True, slots=True)
class Placed:
    """A file in a node's store: absolute path, size in bytes, mtime in Unix seconds."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Later:
    """Another file of the same model: its place in the store, its transfer's key, its bytes."""

    place: str
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file on its way into the store of a node.

    Attributes:
        key: hexadecimal digits, the same for each transfer of this content.
        shown: its name, for people.
        sha256: None while nobody has summed it.
        place: where in the store it has to lie, since other files lie beside it; None when any place will do.
        later: the files that come after it, for which there has to be room as well.
    """

    models_dir: str
    key: str
    size: int
    shown: str
    sha256: str | None = None
    place: str | None = None
    later: tuple[Later, ...] = ()


class Busy(Exception):
    """Another command sends this file to the node, and who asked would not wait. Not for the user."""


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
            ConnectionLost: the connection broke, or the node takes nothing any more. What arrived stays for
                the next time.
        """
        try:
            return await self._running.send(data, stall=self.connection.timeouts.download_stall)
        except TimeoutError:
            raise self._stalled() from None

    async def end(self) -> str:
        """No more bytes. The SHA-256 of all of them as the node sees it, empty where it cannot sum.

        Raises:
            DiskFull: the partial file was removed.
            Short: bytes are missing.
            ConnectionLost: as `send`.
        """
        self._running.end_payload()
        answer: dict[str, str] = {}
        try:
            while True:  # while it sums, it says how far it is
                async with asyncio.timeout(self.connection.timeouts.download_stall):
                    line = await anext(self._lines)
                key, _, answer[key] = line.partition("\t")
        except StopAsyncIteration:
            pass
        except TimeoutError:
            raise self._stalled() from None
        await self._running.finish()
        if answer.get("problem") == "full":
            raise _full(self.name, self._incoming)
        if answer.get("received") != str(self._incoming.size):
            raise Short(moved=self.have == self._incoming.size)
        return answer.get("sha256", "")

    def _stalled(self) -> ConnectionLost:
        stall = self.connection.timeouts.download_stall
        return ConnectionLost(
            f"node {self.name!r} took nothing of {self._incoming.shown} for {stall:.0f} s; a disk may hang",
            hint="run the command again: it goes on where it stopped",
            details={"node": self.name},
        )


class Short(Exception):
    """The transfer was cut; its part stays. Not for the user.

    Args:
        moved: all of it was there, so somebody else has put it into its place meanwhile.
    """

    def __init__(self, *, moved: bool) -> None:
        super().__init__()
        self.moved = moved


@contextlib.asynccontextmanager
async def receiving(
    connection: Connection, incoming: Incoming, reporter: Reporter, *, anew: bool = False, wait: bool = True
) -> AsyncIterator[Receiver | Placed]:
    """Make the node ready to take a file; a second command waits for the first one's transfer of it.

    Args:
        anew: forget what came in before.
        wait: for another command's transfer. Who holds one node already must not, or two that hold what the
            other one waits for stand still.

    Yields:
        The receiver; or where the file is, when the node has it already.

    Raises:
        Busy: it would have to be waited for.
        Compare: the file's SHA-256 is needed first.
        DiskShort: it will not fit.
        ShellUnusable: the store cannot be written.
        ConnectionLost, NodeFault: the way there.
    """
    how = "anew" if anew else ""
    seen: tuple[int, str | None] | None = None
    still = 0.0
    while True:
        args = [incoming.models_dir, incoming.key, str(incoming.size), incoming.sha256 or "", how]
        args += [
            incoming.place or "",
            TAKE.read_text(encoding="utf-8"),
            *(w for one in incoming.later for w in (one.place, one.key, str(one.size))),
        ]
        async with script.running(connection, _text(RECEIVE), args, payload=True) as running:
            lines = running.lines()
            answer = await _first(connection, lines)
            if (placed := placed_of(answer, incoming.size)) is not None:
                yield placed
                return
            if "have" in answer:
                receiver = Receiver(connection, incoming, running, lines)
                receiver.have = min(integer(answer["have"]) or 0, incoming.size)
                need = incoming.size - receiver.have + (integer(answer.get("later", "")) or 0)
                _fits(connection.name, incoming.shown, need, integer(answer.get("free")))
                yield receiver
                return
            running.end_payload()
            await running.finish()
        if "compare" in answer and incoming.sha256 is None:
            raise Compare
        if "busy" not in answer:
            raise refused(connection.name, incoming.models_dir, answer)
        if not wait:
            raise Busy
        # Another command sends the same file: it is fetched once.
        size = integer(answer["busy"]) or 0
        if seen is None:
            reporter.say(f"another command sends {incoming.shown} to {connection.name}: waiting for it")
        # By its bytes and by whose it is: who takes over from a dead one begins with the bytes of that one.
        now = (size, answer.get("owner"))
        seen, still = now, still + BUSY_LOOK if now == seen else 0.0
        # Where all has come, it is being summed: that is not seen from here.
        how = "take" if still >= (BUSY_STALLED if size < incoming.size else SUM_SECONDS) else ""
        reporter.progress(
            f"{incoming.shown} to {connection.name}", min(size, incoming.size - 1), incoming.size
        )
        await asyncio.sleep(BUSY_LOOK)


async def find(connection: Connection, models_dir: str, sha256: str, size: int) -> Placed | None:
    """Where in its store a node has a file with this content.

    Raises:
        NodeFault: the connection or its shell.
    """
    result = await script.run(connection, FIND, [models_dir, sha256, str(size)])
    return placed_of(dict(line.partition("\t")[::2] for line in result.stdout.split("\n")), size)


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
        ChecksumMismatch: another file is there, which stays.
        ShellUnusable: the store cannot be written.
    """
    args = [incoming.models_dir, incoming.key, str(incoming.size), where, note.to_json(), sha256]
    result = await script.run(connection, _text(PLACE), args)
    answer = dict(line.partition("\t")[::2] for line in result.stdout.split("\n"))
    placed = placed_of(answer, incoming.size)
    if placed is None and answer.get("problem") == "other":
        raise taken(connection.name, where, sha256)
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


def taken(node: str, place: str, sha256: str | None) -> ChecksumMismatch:
    """A file has the place of one with this SHA-256, and another one by its note."""
    return ChecksumMismatch(
        f"node {node!r} has another file at {place}, which stays",
        hint=f"rbee models rm {quote(place)} --node {quote(node)}   # then the command again",
        details={"node": node, "place": place, "expected": sha256},
    )


def refused(node: str, path: str, answer: Mapping[str, str]) -> RbeeError:
    """Why a script of the store did nothing."""
    if "locked" in answer:
        return script_errors.locked(node, plain(answer["locked"], 200) or "?")
    if answer.get("problem", "directory") != "directory":
        return script_errors.unwritable(node, plain(answer["problem"], 500))
    return ShellUnusable(
        f"node {node!r}: {path} cannot be written",
        hint=f"set models_dir for {node} in the inventory to a directory of that login's",
        details={"node": node, "path": path},
    )


def _fits(node: str, shown: str, need: int, free_kib: int | None) -> None:
    if free_kib is None or free_kib * 1024 >= need + SPARE or need == 0:
        return
    free = free_kib * 1024
    raise DiskShort(
        f"node {node!r} has {free // MIB} MiB free for models, {shown} needs {need // MIB + 1} MiB "
        f"and {SPARE // MIB} MiB to spare",
        hint=f"rbee models list --node {node}   # then `rbee models rm` or `prune`, partial files too",
        details={"node": node, "need_bytes": need, "spare_bytes": SPARE, "free_bytes": free},
    )


def _full(node: str, incoming: Incoming) -> DiskFull:
    return DiskFull(
        f"node {node!r}: the disk filled while {incoming.shown} was written; what had arrived was removed",
        hint=f"rbee models prune --older-than 30d --node {node}   # or set models_dir in the inventory",
        details={"node": node, "need_bytes": incoming.size},
    )


def _text(path: Path) -> str:
    return compose(LIB, STORE, path)
