"""`models copy`, and `models pull` to several nodes: a model from one node's store to those of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ModelNotFound, RbeeError, ResponseInvalid
from rbee_ssh.library import stores
from rbee_ssh.library.push import AT_ONCE, Pushed
from rbee_ssh.models import receiver, relay
from rbee_ssh.models.node_store import StoredFile, StoredModel
from rbee_ssh.models.receiver import STORE, Incoming, Later, Placed
from rbee_ssh.models.relay import Target
from rbee_ssh.models.transfer_progress import TransferProgress
from rbee_ssh.node.scripts import LIB, compose
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool

_SUM = compose(
    LIB, STORE, then='rbee_sha256_tool; [ -z "$SHA256" ] || printf \'sha256\\t%s\\n\' "$($SHA256 <"$1")"'
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
        ModelNotFound, ModelAmbiguous, ModelRefInvalid: see models/selection.py.
        RbeeError: of the origin, or of the only node.
    """
    asked = [origin] if origin is not None else list(pool.inventory.nodes)
    found, _ = await stores.copies(pool, reference, asked)
    whole = [model for model in found if model.whole]
    if not whole:
        raise ModelNotFound(
            f"{found[0].name} on {found[0].node} is not whole",
            hint=f"rbee models verify --node {found[0].node}",
            details={"node": found[0].node, "path": found[0].path},
        )
    model = whole[0]
    targets = [name for name in nodes if name != model.node]
    if model.node in nodes:
        pool.reporter.say(f"{model.name} is on {model.node} already: {model.path}")
        on_node(Pushed(model.node, model.path, model.sha256 or "", model.size, model.files[0].mtime))
    failed = await spread(pool, model, targets, on_node)
    if len(targets) == 1 and failed:
        raise failed[targets[0]]
    return failed


async def spread(
    pool: ConnectionPool, model: StoredModel, nodes: Sequence[str], on_node: Callable[[Pushed], None]
) -> dict[str, RbeeError]:
    """Bring a stored model to other nodes, through here, three of them at once.

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
    origin = await pool.connect(model.node)
    sums = [file.note.sha256 or await _sum(origin, f"{model.store}/{file.place}") for file in model.files]
    where = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
    tally = TransferProgress(
        pool.reporter, f"{model.name} from {model.node} to {where}", model.size, len(nodes)
    )
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
        for at in reversed(range(len(model.files))):
            placed, lost = await _file(pool, origin, model, sums, at, connections, tally)
            failed |= lost
            for name in lost:
                tally.leave(name)
                del connections[name]
            firsts = placed
        for name in connections:
            on_node(Pushed(name, firsts[name].path, sums[0], model.size, firsts[name].mtime))
    return failed


async def _file(
    pool: ConnectionPool,
    origin: Connection,
    model: StoredModel,
    sums: Sequence[str],
    at: int,
    connections: dict[str, Connection],
    tally: TransferProgress,
) -> tuple[dict[str, Placed], dict[str, RbeeError]]:
    """One file to some nodes: where each has it now, or why not. What arrives wrong is sent once more."""
    file, sha256 = model.files[at], sums[at]
    path = f"{model.store}/{file.place}"
    placed: dict[str, Placed] = {}
    failed: dict[str, RbeeError] = {}
    pending = dict(connections)
    for attempt in (1, 2):
        targets = [
            Target(connection, _incoming(pool, name, model, sums, at)) for name, connection in pending.items()
        ]
        if not targets:
            break
        again: dict[str, Connection] = {}
        batches = [targets]
        while batches:
            batch = batches.pop(0)
            answers = await relay.relay(origin, path, batch, pool.reporter, tally)
            batches += [[target] for target in batch if target.connection.name not in answers]
            for target in batch:
                name = target.connection.name
                if (answer := answers.get(name)) is None:
                    continue
                try:
                    got = await _settled(pool, origin, path, file, sha256, target, answer, last=attempt == 2)
                except RbeeError as error:
                    failed[name] = error
                    continue
                if got is None:
                    again[name] = target.connection
                    continue
                placed[name] = got
                tally.count(name, path, file.size)
        pending = again
    return placed, failed


async def _settled(
    pool: ConnectionPool,
    origin: Connection,
    path: str,
    file: StoredFile,
    sha256: str,
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
    if answer in (sha256, ""):
        return await _place(target, file, sha256, verified=bool(answer))
    await receiver.forget(target.connection, target.incoming)
    if last:
        raise relay.differs(name, file.name, origin.name, sha256, answer)
    pool.reporter.warn(f"what arrived on {name} differs from the SHA-256 of {path}; sending it once more")
    return None


def _incoming(pool: ConnectionPool, name: str, model: StoredModel, sums: Sequence[str], at: int) -> Incoming:
    file = model.files[at]
    return Incoming(
        inventories.node(pool.inventory, name).models_dir,
        sums[at][:24],
        file.size,
        file.name,
        sums[at],
        place=file.place if len(model.files) > 1 else None,
        later=tuple(Later(model.files[n].place, sums[n][:24], model.files[n].size) for n in range(at)),
    )


async def _place(target: Target, file: StoredFile, sha256: str, *, verified: bool) -> Placed:
    note = file.note.arrived(sha256, file.size, verified=verified)
    placed = await receiver.place(target.connection, target.incoming, file.place, note, sha256)
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
