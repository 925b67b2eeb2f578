"""`models copy`, and `models pull` to several nodes: a model from one node's store to those of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ModelAmbiguous, ModelNotFound, RbeeError, ResponseInvalid
from rbee_ssh.library import stores
from rbee_ssh.library.push import AT_ONCE, Pushed
from rbee_ssh.library.remote_reference import meant
from rbee_ssh.models import receiver, relay
from rbee_ssh.models.known_sums import Belonging, belongings
from rbee_ssh.models.node_store import StoredModel
from rbee_ssh.models.receiver import STORE, Incoming, Later, Placed
from rbee_ssh.models.relay import Target
from rbee_ssh.models.remote import Remote
from rbee_ssh.models.store import shown_name
from rbee_ssh.models.transfer_progress import TransferProgress
from rbee_ssh.node.scripts import LIB, OWNERS, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.wording import listed

_SUM = compose(
    LIB,
    OWNERS,
    STORE,
    then='rbee_sha256_tool; [ -z "$SHA256" ] || printf \'sha256\\t%s\\n\' "$($SHA256 <"$1")"',
)


async def copy(
    pool: ConnectionPool,
    reference: str,
    origin: str | None,
    nodes: Sequence[str],
    on_node: Callable[[Pushed], None],
) -> dict[str, RbeeError]:
    """Copy a model to these nodes.

    Args:
        origin: the node to copy from; None for any that has it.
        on_node: told of each node as it has all of it.

    Returns:
        The nodes where that failed, with the reason.

    Raises:
        ModelNotFound, ModelAmbiguous, ModelRefInvalid: see models/selection.py; or what the nodes have is not
            what the hub calls so, or differs from node to node.
        RbeeError: of the origin, or of the only node.
    """
    asked = [origin] if origin is not None else list(pool.inventory.nodes)
    found, _ = await stores.copies(pool, reference, asked)
    named, remote = await meant(pool, reference)
    whole = [model for model in found if model.whole]
    if not whole:
        raise ModelNotFound(
            f"{found[0].name} on {found[0].node} is not whole",
            hint=f"rbee models verify --node {found[0].node}",
            details={"node": found[0].node, "path": found[0].path},
        )
    model = _the_one(whole, remote)
    targets = [name for name in nodes if name != model.node]
    if model.node in nodes:
        pool.reporter.say(f"{model.name} is on {model.node} already: {model.path}")
        on_node(Pushed(model.node, model.path, model.sha256 or "", model.size, model.files[0].mtime))
    files = await _handed(pool, model, named=named) if targets else []
    failed = await spread(pool, model.node, files, targets, on_node)
    if len(targets) == 1 and failed:
        raise failed[targets[0]]
    return failed


@dataclass(frozen=True, slots=True)
class Handed:
    """A file of a node for others: its absolute path there, where it belongs on them, its size in bytes, and
    the SHA-256 that it has to have when it arrives."""

    path: str
    belongs: Belonging
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.belongs.place.rpartition("/")[2]


def _the_one(whole: Sequence[StoredModel], remote: Remote | None) -> StoredModel:
    """Of the nodes that have a model, one that has what is meant, by its own word.

    Raises:
        ModelNotFound: none has what the hub calls so (`remote`).
        ModelAmbiguous: they have different models, and nobody here knows which it is.
    """
    if remote is not None:
        wanted = [(file.size, file.sha256) for file in remote.files]
        for model in whole:
            told = [(file.size, file.note.sha256) for file in model.files]
            if len(told) == len(wanted) and all(
                size == here and sha256 in (None, there)
                for (size, sha256), (here, there) in zip(told, wanted, strict=True)
            ):
                return model
        model, shown = whole[0], remote.ref.display
        raise ModelNotFound(
            f"what {model.node} calls {shown} is not what the hub or this machine knows by that name",
            hint=f"rbee models pull {quote(shown)}   # or, as a file of its own: "
            f"rbee models copy {model.id} --from {quote(model.node)}",
            details={"node": model.node, "path": model.path},
        )
    if len({tuple(file.note.sha256 for file in model.files) for model in whole}) > 1:
        nodes = [model.node for model in whole]
        raise ModelAmbiguous(
            f"{whole[0].name} is not the same on {listed(nodes)}",
            hint=f"rbee models copy {whole[0].id} --from {quote(nodes[0])} --to NODE   # or from another one",
            details={"nodes": nodes},
        )
    return whole[0]


async def _handed(pool: ConnectionPool, model: StoredModel, *, named: bool) -> list[Handed]:
    """The files of a node's model for others. `named`: whether it was asked for by a name of the hub's.

    Raises:
        RbeeError: of the node.
    """
    paths = [f"{model.store}/{file.place}" for file in model.files]
    origin = await pool.connect(model.node)
    sums = [
        file.note.sha256 or await _sum(origin, path) for file, path in zip(model.files, paths, strict=True)
    ]
    belong = await pool.registry.off_loop(belongings, pool.registry, model.node, model.files, sums)
    note = belong[0].note
    if note.told_by and note.source:
        tell = pool.reporter.warn if named else pool.reporter.detail
        tell(f"{model.node} alone says that {model.name} is {note.source}: it is copied without that name")
    if note.told_by and model.open:
        pool.reporter.warn(
            f"others than this login may write {model.path} on {model.node} and its note: it may be anything"
        )
    return [
        Handed(path, one, file.size, sha256)
        for path, one, file, sha256 in zip(paths, belong, model.files, sums, strict=True)
    ]


async def spread(
    pool: ConnectionPool,
    node: str,
    files: Sequence[Handed],
    nodes: Sequence[str],
    on_node: Callable[[Pushed], None],
) -> dict[str, RbeeError]:
    """Bring the files of a model from a node to others, through here, three of them at once.

    Each file is read once for three nodes, which get it at the pace of the slowest; it is proven on arrival.
    No node connects to another, so none needs a key or an agent for it.

    Returns:
        The nodes where that failed, with the reason.

    Raises:
        RbeeError: of the node that has the model.
    """
    failed: dict[str, RbeeError] = {}
    if not nodes:
        return failed
    origin = await pool.connect(node)
    total, name = sum(file.size for file in files), shown_name(files[0].name)
    where = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
    tally = TransferProgress(pool.reporter, f"{name} from {node} to {where}", total, len(nodes))
    for begin in range(0, len(nodes), AT_ONCE):
        batch = nodes[begin : begin + AT_ONCE]
        answers = await asyncio.gather(*(pool.connect(name) for name in batch), return_exceptions=True)
        connections: dict[str, Connection] = {}
        for name, answer in zip(batch, answers, strict=True):
            if isinstance(answer, RbeeError):
                failed[name] = answer
                tally.leave(name)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                connections[name] = answer
        firsts: dict[str, Placed] = {}
        # The first part comes last: where it is, all are.
        for at in reversed(range(len(files))):
            placed, lost = await _file(pool, origin, files, at, connections, tally)
            failed |= lost
            for name in lost:
                tally.leave(name)
                del connections[name]
            firsts = placed
        for name in connections:
            on_node(Pushed(name, firsts[name].path, files[0].sha256, total, firsts[name].mtime))
    return failed


async def _file(
    pool: ConnectionPool,
    origin: Connection,
    files: Sequence[Handed],
    at: int,
    connections: dict[str, Connection],
    tally: TransferProgress,
) -> tuple[dict[str, Placed], dict[str, RbeeError]]:
    """One file to some nodes: where each has it now, or why not. What arrives wrong is sent once more."""
    file = files[at]
    placed: dict[str, Placed] = {}
    failed: dict[str, RbeeError] = {}
    pending = dict(connections)
    for attempt in (1, 2):
        targets = [
            Target(connection, _incoming(pool, name, files, at)) for name, connection in pending.items()
        ]
        if not targets:
            break
        again: dict[str, Connection] = {}
        batches = [targets]
        while batches:
            batch = batches.pop(0)
            answers = await relay.relay(origin, file.path, batch, pool.reporter, tally)
            batches += [[target] for target in batch if target.connection.name not in answers]
            for target in batch:
                name = target.connection.name
                if (answer := answers.get(name)) is None:
                    continue
                try:
                    got = await _settled(pool, origin, file, target, answer, last=attempt == 2)
                except RbeeError as error:
                    failed[name] = error
                    continue
                if got is None:
                    again[name] = target.connection
                    continue
                placed[name] = got
                tally.count(name, file.path, file.size)
        pending = again
    return placed, failed


async def _settled(
    pool: ConnectionPool,
    origin: Connection,
    file: Handed,
    target: Target,
    answer: Placed | str | RbeeError,
    *,
    last: bool,
) -> Placed | None:
    """Where the file is now; None where it is to be sent once more, since what arrived is something else.

    Raises:
        RbeeError: why nothing arrived, or nothing right, or it cannot be put into its place.
    """
    name = target.connection.name
    if isinstance(answer, RbeeError):
        raise answer
    if isinstance(answer, Placed):
        pool.reporter.say(f"{file.name} is on {name} already: {answer.path}")
        return answer
    if answer == file.sha256:
        return await _place(target, file)
    await receiver.forget(target.connection, target.incoming)
    if last or not answer:
        raise relay.differs(name, file.name, origin.name, file.sha256, answer)
    pool.reporter.warn(
        f"what arrived on {name} differs from the SHA-256 of {file.path}; sending it once more"
    )
    return None


def _incoming(pool: ConnectionPool, name: str, files: Sequence[Handed], at: int) -> Incoming:
    file = files[at]
    return Incoming(
        inventories.node(pool.inventory, name).models_dir,
        file.sha256[:24],
        file.size,
        file.name,
        file.sha256,
        place=file.belongs.place if len(files) > 1 else None,
        later=tuple(Later(one.belongs.place, one.sha256[:24], one.size) for one in files[:at]),
    )


async def _place(target: Target, file: Handed) -> Placed:
    note = file.belongs.note.arrived(file.sha256, file.size, verified=True)
    placed = await receiver.place(target.connection, target.incoming, file.belongs.place, note, file.sha256)
    if placed is None:
        raise ResponseInvalid(f"node {target.connection.name!r} lost {file.name} after it had arrived")
    return placed


async def _sum(origin: Connection, path: str) -> str:
    """The SHA-256 of a file whose note has none.

    Raises:
        ResponseInvalid: the node cannot tell.
    """
    result = await script.run(origin, _SUM, [path], timeout=receiver.SUM_SECONDS)
    found = [line.split("\t")[1].split(" ")[0] for line in result.stdout.split("\n") if "\t" in line]
    if not found or len(found[0]) != 64 or not set(found[0]) <= set("0123456789abcdef"):
        raise ResponseInvalid(f"node {origin.name!r} cannot tell the SHA-256 of {path}")
    return found[0]
