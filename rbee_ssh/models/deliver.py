"""A local model file goes to a node: once, whole, and continued where an earlier try stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from rbee_ssh.errors import ChecksumMismatch, ConnectionLost, ModelInvalid, ModelNotFound
from rbee_ssh.models import outgoing, receiver, store
from rbee_ssh.models.outgoing import Outgoing, Stamp
from rbee_ssh.models.receiver import Compare, Incoming, Later, Placed, Receiver, Short
from rbee_ssh.models.store import Note
from rbee_ssh.models.transfer_progress import TransferProgress
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import Reporter
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.quote import quote

# Larger pieces wake the event loop less often; asyncssh cuts them into SSH's 32 KiB itself.
CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """A local file, known by content. `stamp`: path, size in bytes, mtime in ns; `others`: the SHA-256 of the
    other parts of a split model, "" of one that nobody remembers."""

    stamp: Stamp
    sha256: str
    others: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.stamp[1]

    def stored_as(self, models_dir: str) -> str:
        """Its path in a node's store: readable, and two files of one name do not meet."""
        return store.in_store(models_dir, store.local_place(self.sha256, self.stamp[0]))


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a file that came from elsewhere and only passes through here: its place in the store, its note."""

    place: str
    note: Note


async def identify(stamp: Stamp, registry: Registry, reporter: Reporter) -> Source:
    """A local file with its SHA-256, and those of its other parts: two models may have the same first part.

    Raises as `outgoing.identify`.
    """
    sha256 = await outgoing.identify(stamp, registry, reporter)
    others = [await outgoing.identify(part, registry, reporter) for part in outgoing.other_parts(stamp)]
    return Source(stamp, sha256, tuple(others))


async def remembered(stamp: Stamp, registry: Registry) -> Source | None:
    """As `identify`, without reading it; None when its SHA-256 is not remembered.

    Raises:
        ModelNotFound: a part of it is not there.
    """
    if (sha256 := await outgoing.remembered(stamp, registry)) is None:
        return None
    others = [await outgoing.remembered(part, registry) or "" for part in outgoing.other_parts(stamp)]
    return Source(stamp, sha256, tuple(others))


async def deliver_all(
    connection: Connection,
    files: Sequence[Outgoing],
    models_dir: str,
    reporter: Reporter,
    tally: TransferProgress | None = None,
) -> Placed:
    """A model of one file or, in order, of all parts. The first one comes last: where it is, all are.

    Returns:
        Where the first file is. Raises as `deliver`.
    """
    if len(files) == 1:
        return await deliver(connection, files[0], models_dir, reporter, tally=tally)
    first = await files[0].sum(reporter)
    places = [store.local_place(first, file.name) for file in files]
    for at in reversed(range(len(files))):
        later = tuple(Later(places[n], files[n].key, files[n].size) for n in range(at))
        placed = await deliver(
            connection, files[at], models_dir, reporter, place=places[at], later=later, tally=tally
        )
    return placed


async def deliver(
    connection: Connection,
    file: Outgoing,
    models_dir: str,
    reporter: Reporter,
    *,
    place: str | None = None,
    later: tuple[Later, ...] = (),
    tally: TransferProgress | None = None,
    origin: Origin | None = None,
) -> Placed:
    """Send the file and prove it there. What is cut goes on where it stopped, the next time.

    Args:
        models_dir: of the node, absolute or with a leading ~/.
        place: where in the store it has to lie, for a part of a split model; the same bytes elsewhere in the
            store do for a file that stands alone.
        later: the parts that come after it.
        tally: where to count bytes, when several transfers share a progress line.
        origin: where it really came from; a local file without it.

    Raises:
        DiskShort, DiskFull: it does not fit, or stopped fitting; the partial file is removed.
        ChecksumMismatch: what arrived differs, twice.
        ModelInvalid, ModelNotFound: the local file changes meanwhile, or is gone.
        ShellUnusable: the models directory cannot be written.
        ConnectionLost: on the way.
    """
    tally = tally or TransferProgress(reporter, f"sending {file.name}", file.size)
    theirs = ""

    def incoming() -> Incoming:  # its SHA-256 may be known by now
        return Incoming(models_dir, file.key, file.size, file.name, file.sha256, place, later)

    for attempt in (1, 2):
        try:
            found = await _arrived(connection, file, incoming(), reporter, tally, anew=attempt == 2)
        except Compare:
            await file.sum(reporter)
            found = await _arrived(connection, file, incoming(), reporter, tally, anew=attempt == 2)
        if isinstance(found, Placed):
            tally.count(connection.name, file.name, file.size)
            return found
        theirs = found
        ours = await file.sum(reporter)
        if theirs in (ours, ""):
            if not theirs:
                reporter.warn(f"{connection.name} has no SHA-256 program: only the size was compared")
            where = place or (origin.place if origin else store.local_place(ours, file.name))
            note = await _note(file, ours, origin, verified=bool(theirs))
            placed = await receiver.place(connection, incoming(), where, note, ours)
            if placed is not None:
                return placed
        else:
            await receiver.forget(connection, incoming())
        if attempt == 1:
            reporter.warn(f"what arrived on {connection.name} differs from {file.path}; sending it once more")
    raise ChecksumMismatch(
        f"node {connection.name!r}: what arrived differs from {file.path} after two tries",
        hint=f"sha256sum {quote(file.path)}   # twice: does this machine read the same each time?",
        details={"expected": file.sha256, "got": theirs},
    )


async def _arrived(
    connection: Connection,
    file: Outgoing,
    incoming: Incoming,
    reporter: Reporter,
    tally: TransferProgress,
    *,
    anew: bool,
    again: bool = True,
) -> Placed | str:
    """Bring the bytes there. Where the file is already, or the SHA-256 of what arrived."""
    try:
        async with receiver.receiving(connection, incoming, reporter, anew=anew) as ready:
            if isinstance(ready, Placed):
                reporter.say(f"{file.name} is on {connection.name} already: {ready.path}")
                return ready
            file.begin()
            mib = f"{file.size // receiver.MIB} MiB"
            if ready.have:
                told = f"{ready.have // receiver.MIB} of {mib} are there"
                reporter.say(f"sending {file.name} to {connection.name}: {told}")
            else:
                reporter.say(f"sending {file.name} ({mib}) to {connection.name}")
            await _pour(ready, file, tally)
            return await ready.end()
    except OSError as error:
        raise ModelNotFound(f"{file.path}: {error.strerror}", details={"path": file.path}) from error
    except Short as error:
        if error.moved and again:  # by another command: to where it is found now
            return await _arrived(connection, file, incoming, reporter, tally, anew=anew, again=False)
        raise ConnectionLost(
            f"node {connection.name!r} stopped taking {file.name} before its end",
            hint="run the command again: it goes on where it stopped",
            details={"node": connection.name},
        ) from error


async def _pour(ready: Receiver, file: Outgoing, tally: TransferProgress) -> None:
    """The file's bytes from `ready.have` on."""
    done = ready.have
    tally.count(ready.name, file.name, done)
    # Local reads of 1 MiB, between writes that wait for the network: nothing else needs the loop meanwhile.
    with open(file.path, "rb", buffering=0) as source:  # noqa: ASYNC230
        source.seek(done)
        while done < file.size and (data := source.read(min(CHUNK, file.size - done))):
            if not await ready.send(data):
                return  # it ended early, and says why
            done += len(data)
            tally.count(ready.name, file.name, done)
    if done < file.size or not file.unchanged():
        raise file.changing()


async def _note(file: Outgoing, sha256: str, origin: Origin | None, *, verified: bool) -> Note:
    from rbee_ssh.models import header
    from rbee_ssh.models.note_members import described_note

    note = origin.note if origin else Note(source=file.path)
    with contextlib.suppress(ModelInvalid, OSError):  # then nothing is told of it
        note = described_note(await header.read_local(file.path), file.name, note)
    return note.arrived(sha256, file.size, verified=verified)
