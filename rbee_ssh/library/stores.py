"""The stores of the nodes, all at once: what they hold, whether it is still right, and taking it away."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ModelInUse, ModelNotFound, RbeeError, ResponseInvalid, UsageInvalid
from rbee_ssh.models import node_store, receiver
from rbee_ssh.models.known_sums import expected, sums_by_place
from rbee_ssh.models.node_store import NodeStore, StoredModel
from rbee_ssh.models.receiver import STORE
from rbee_ssh.models.selection import find
from rbee_ssh.node.scripts import LIB, OWNERS, compose
from rbee_ssh.node.untrusted_text import integer, plain
from rbee_ssh.ssh import script
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.wording import without_secrets

_HERE = Path(receiver.__file__)
LIST = compose(LIB, OWNERS, STORE, _HERE.with_name("list.sh"))
REMOVE = compose(LIB, OWNERS, STORE, _HERE.with_name("remove.sh"))
VERIFY = compose(LIB, OWNERS, STORE, _HERE.with_name("verify.sh"))
PARTS_KEPT = 86400.0  # seconds: what was cut today may still be continued

Unreachable = dict[str, RbeeError]


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of reading a model again: same, differs, gone, cut (a part is missing or too short), unknown
    (neither here nor there anybody knows its SHA-256)."""

    model: StoredModel
    state: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal did. `mapped`: left alone, each with the workers (or processes) that have it; `parts`:
    places and bytes of partial files by node."""

    removed: tuple[StoredModel, ...] = ()
    kept: tuple[StoredModel, ...] = ()
    mapped: tuple[tuple[StoredModel, tuple[str, ...]], ...] = ()
    parts: tuple[tuple[str, str, int], ...] = ()
    unreachable: Unreachable = field(default_factory=dict)


async def store_contents(pool: ConnectionPool, nodes: Sequence[str]) -> tuple[list[NodeStore], Unreachable]:
    """What the stores of these nodes hold, one round trip each; the nodes that could not be asked."""
    found: dict[str, NodeStore] = {}

    async def one(name: str) -> None:
        connection = await pool.connect(name, tries=1 if len(nodes) > 1 else None)
        result = await script.run(connection, LIST, [_models_dir(pool, name)])
        contents = node_store.parse(name, result.stdout.split("\n"))
        if not contents.ended:
            raise ResponseInvalid(f"node {name!r}: the list of its models has no end")
        found[name] = contents

    unreachable = await _each(nodes, one)
    return [found[name] for name in nodes if name in found], unreachable


async def copies(
    pool: ConnectionPool, reference: str, nodes: Sequence[str]
) -> tuple[list[StoredModel], Unreachable]:
    """Where the one model is that a user means.

    Raises:
        ModelNotFound, ModelAmbiguous, ModelRefInvalid: see models/selection.py.
        RbeeError: of the only node, which could not be asked.
    """
    found, unreachable = await store_contents(pool, nodes)
    if not found and unreachable:
        raise next(iter(unreachable.values()))
    models = [model for contents in found for model in contents.models]
    try:
        return find(reference, models, pool.inventory), unreachable
    except ModelNotFound as error:
        if not unreachable:
            raise
        raise ModelNotFound(
            f"{error.message}; {', '.join(unreachable)} could not be asked",
            hint=error.hint,
            details=error.details | {"unreachable": sorted(unreachable)},
        ) from error


async def verify(
    pool: ConnectionPool, models: Iterable[StoredModel], on_verdict: Callable[[Verification], None]
) -> Unreachable:
    """Read the models' files again where they are, all nodes at once, and compare: with what is known here,
    else with what their places and notes say.

    Args:
        on_verdict: told of each model as it is done.

    Returns:
        The nodes on which that failed.
    """
    by_node = _by_node(models)
    known = await pool.registry.off_loop(sums_by_place, pool.registry)

    async def one(name: str) -> None:
        states: dict[str, str] = {}
        files = [file for model in by_node[name] for file in model.files]
        wanted = {file.place: sha256 for file in files if (sha256 := expected(file, known)) is not None}
        args = [_models_dir(pool, name), str(int(time.time()))]
        for place, sha256 in wanted.items():
            args += [place, sha256, "1" if place in known else ""]
        connection = await pool.connect(name)
        waiting = list(by_node[name])

        def tell() -> None:
            while waiting and (state := _verdict(waiting[0], wanted, states)) is not None:
                on_verdict(Verification(waiting.pop(0), state))

        tell()
        said: dict[str, str] = {}
        opened: list[str] = []
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(receiver.SUM_SECONDS) as limit,
                script.running(connection, VERIFY, args) as running,
            ):
                async for line in running.lines():
                    limit.reschedule(loop.time() + receiver.SUM_SECONDS)
                    word, _, rest = line.partition("\t")
                    if word == "reading":
                        pool.reporter.detail(f"reading {plain(rest)} on {name}")
                    elif word in ("same", "differs", "gone"):
                        states[rest.partition("\t")[0]] = word
                        tell()
                    elif word == "open":
                        opened.append(plain(rest))
                    else:
                        said[word] = rest
                await running.finish()
        except TimeoutError:
            said = {"problem": f"nothing came for {receiver.SUM_SECONDS:.0f} s"}
        if opened:
            more = f" and {len(opened) - 1} more" if len(opened) > 1 else ""
            pool.reporter.warn(
                f"others than this login may write in {_models_dir(pool, name)} on {name}: "
                f"{opened[0]}{more} was compared with a note that proves nothing"
            )
        if waiting:
            raise receiver.refused(name, _models_dir(pool, name), said or {"problem": "verify.sh broke off"})

    return await _each(list(by_node), one)


def _verdict(model: StoredModel, wanted: Mapping[str, str], states: Mapping[str, str]) -> str | None:
    """None while a file of it has not been read."""
    told = [states.get(file.place) if file.place in wanted else "unknown" for file in model.files]
    if None in told:
        return None
    for state in ("gone", "differs"):
        if state in told:
            return state
    if not model.whole:
        return "cut"
    return "unknown" if "unknown" in told else "same"


async def remove(
    pool: ConnectionPool, reference: str, nodes: Sequence[str], *, everywhere: bool, force: bool
) -> Removal:
    """Remove a model.

    Args:
        nodes: where to look for it.
        everywhere: whether it may be on several of them.
        force: also where a worker has it.

    Raises:
        ModelInUse: each copy is in use; nothing was removed.
        UsageInvalid: it is on several nodes, and not all are meant.
        ModelNotFound, ModelAmbiguous, ModelRefInvalid: see models/selection.py.
    """
    found, unreachable = await copies(pool, reference, nodes)
    where = list(dict.fromkeys(model.node for model in found))
    if len(where) > 1 and not everywhere:
        raise UsageInvalid(
            f"{found[0].name} is on {', '.join(where)}",
            hint=f"rbee models rm {quote(without_secrets(reference))} --node {where[0]}   # or --all",
        )
    done = await _remove(pool, found, force=force)
    if done.mapped and not done.removed:
        raise in_use(done.mapped)
    return _with_unreachable(done, unreachable)


def in_use(mapped: Sequence[tuple[StoredModel, tuple[str, ...]]]) -> ModelInUse:
    """The error about copies that were left alone, each with those who have it."""
    first = mapped[0][0]
    every = dict.fromkeys(user for _, users in mapped for user in users)
    workers = [user for user in every if not user.startswith("process:")]
    where = ", ".join(f"on {model.node} by {' '.join(users)}" for model, users in mapped)
    nodes = " ".join(f"--node {model.node}" for model, _ in mapped)
    return ModelInUse(
        f"{first.name} is in use: {where}",
        hint=(f"rbee workers stop {' '.join(workers)}   # or " if workers else "")
        + f"rbee models rm {first.id} {nodes} --force",
        details={
            "copies": [{"node": one.node, "path": one.path, "users": list(users)} for one, users in mapped]
        },
    )


async def prune(
    pool: ConnectionPool, nodes: Sequence[str], *, older_than: float, dry_run: bool, partial: bool = False
) -> Removal:
    """Remove what no worker was started with for `older_than` seconds, and partial files as old, or a day.

    Args:
        partial: partial files only.
    """
    found, unreachable = await store_contents(pool, nodes)
    # By each node's clock, which wrote down when a model was used.
    since = {contents.node: int(contents.now - older_than) for contents in found}
    old = [
        model
        for contents in found
        for model in contents.models
        if not partial and model.last_used <= since[contents.node]
    ]
    parts = min(older_than, PARTS_KEPT)
    done = await _remove(pool, old, nodes=list(since), since=since, dry_run=dry_run, parts=parts)
    return _with_unreachable(done, unreachable)


async def _remove(
    pool: ConnectionPool,
    models: Sequence[StoredModel],
    *,
    nodes: Sequence[str] = (),
    force: bool = False,
    since: Mapping[str, int] | None = None,
    dry_run: bool = False,
    parts: float | None = None,
) -> Removal:
    by_node = {name: list[StoredModel]() for name in nodes} | _by_node(models)
    removed: list[StoredModel] = []
    kept: list[StoredModel] = []
    mapped: list[tuple[StoredModel, tuple[str, ...]]] = []
    partial: list[tuple[str, str, int]] = []

    async def one(name: str) -> None:
        known = {model.place: model for model in by_node[name]}
        args = [_models_dir(pool, name), "1" if force else "", "1" if dry_run else ""]
        args += [
            "" if since is None else str(since[name]),
            "" if parts is None else str(math.ceil(parts / 60)),
        ]
        for model in by_node[name]:
            args.append(str(len(model.files)))
            for file in model.files:
                # As a worker's spec.json has it, so that the node can look for it there.
                args += [file.place, json.dumps(f"{model.store}/{file.place}")]
        connection = await pool.connect(name)
        result = await script.run(connection, REMOVE, args, timeout=120.0)
        said: dict[str, str] = {}
        told = set()
        for line in result.stdout.split("\n"):
            word, _, rest = line.partition("\t")
            place, _, also = rest.partition("\t")
            if word in ("removed", "kept", "mapped") and place in known:
                told.add(place)
                if word == "mapped":
                    mapped.append((known[place], tuple(dict.fromkeys(plain(also, 2000).split()))))
                else:
                    (removed if word == "removed" else kept).append(known[place])
            elif word == "part":
                partial.append((name, plain(place), integer(also) or 0))
            else:
                said[word] = rest
        if told != set(known):
            raise receiver.refused(name, _models_dir(pool, name), said)

    unreachable = await _each(list(by_node), one)
    if len(by_node) == 1 and unreachable:
        raise next(iter(unreachable.values()))
    return Removal(tuple(removed), tuple(kept), tuple(mapped), tuple(partial), unreachable)


def _with_unreachable(done: Removal, also: Unreachable) -> Removal:
    return Removal(done.removed, done.kept, done.mapped, done.parts, {**also, **done.unreachable})


def _by_node(models: Iterable[StoredModel]) -> dict[str, list[StoredModel]]:
    found: dict[str, list[StoredModel]] = {}
    for model in models:
        found.setdefault(model.node, []).append(model)
    return found


def _models_dir(pool: ConnectionPool, name: str) -> str:
    return inventories.node(pool.inventory, name).models_dir


async def _each(names: Sequence[str], work: Callable[[str], Awaitable[None]]) -> Unreachable:
    """Do it for each node at once; the errors by node."""
    unreachable: Unreachable = {}

    async def one(name: str) -> None:
        try:
            await work(name)
        except RbeeError as error:
            unreachable[name] = error

    await asyncio.gather(*(one(name) for name in names))
    return {name: unreachable[name] for name in names if name in unreachable}
