"""One node, asked for one wish: connected, probed, and what was learned put together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import ModelInvalid, ModelNotFound, RbeeError, UsageInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.models import deliver, header
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.models.reference import HubRef, LocalFileRef, NodeFileRef, UrlRef
from rbee_ssh.models.remote import Remote, from_memo, memo_key
from rbee_ssh.models.store import in_store, part_of
from rbee_ssh.node.choose import Choice, choose_engine
from rbee_ssh.node.facts import Facts, ModelFile
from rbee_ssh.node.probe import probe
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import records
from rbee_ssh.workers.records import Record, WorkerSnapshot, complain, remember
from rbee_ssh.workers.resolve import ResolvedRequest, match, resolve
from rbee_ssh.workers.types import LIVE_STATES, WorkerRequest


@dataclass(frozen=True, slots=True)
class ModelOnNode:
    """A model as a node has it: its first file's absolute path, bytes, mtime (Unix seconds); `total`: the
    bytes of all its parts."""

    path: str
    size: int
    mtime: int
    total: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything known about serving a wish on its node. `model` is None when the file has to come there:
    sent from here (`source`), or from the hub or a URL (`remote`)."""

    request: ResolvedRequest
    connection: Connection
    facts: Facts
    look: WorkerSnapshot
    choice: Choice
    model: ModelOnNode | None
    source: deliver.Source | None
    remote: Remote | None = None
    known: CachedHeader | None = None  # of the model's file

    @property
    def path(self) -> str:
        """Where the model is, or will be, on the node, as the node is asked for it."""
        return _path_on_node(self.request, self.source, self.remote)

    @property
    def summed(self) -> bool:
        """Whether it can be told that the node lacks the model: a local file is known by its SHA-256."""
        return self.request.local is None or self.request.node.embedded or self.source is not None

    @property
    def model_size(self) -> int:
        """Bytes of the model with all its parts, wherever it is now; 0 when nobody has told."""
        if self.model is not None:
            return self.model.total
        return self.request.local_bytes or (self.remote.size if self.remote else None) or 0

    def match_of(self, model: ModelOnNode) -> str:
        return match(
            self.request, self.choice.engine, self.choice.backend, model.path, model.size, model.mtime
        )

    @property
    def same(self) -> Record | None:
        """A living worker that would serve this wish, a ready one first."""
        if self.model is None:
            return None
        wanted = self.match_of(self.model)
        living = [r for r in self.look.records if r.text("match") == wanted and r.state in LIVE_STATES]
        living.sort(key=lambda r: r.state not in ("idle", "busy"))
        return living[0] if living else None


async def prepare_all(pool: ConnectionPool, request: WorkerRequest) -> list[Prepared]:
    """The nodes that can serve the request: the one it names, or all that can.

    Raises:
        RbeeError: of the named node; without a name, of the first node if none can.
    """
    names = [request.node] if request.node is not None else list(pool.inventory.nodes)
    if not names:
        raise UsageInvalid("the inventory has no node", hint="add a [nodes.NAME] with a host")
    wishes = [resolve(request, pool.inventory, inventories.node(pool.inventory, name)) for name in names]
    source = await _source(pool, wishes)
    remotes = await remotes_of(pool, wishes)
    wishes = [one for one in wishes if one.node.name in remotes]
    tries = None if len(wishes) == 1 else 1
    answers = await asyncio.gather(
        *(prepare(pool, one, source, remotes[one.node.name], tries) for one in wishes),
        return_exceptions=True,
    )
    able = [answer for answer in answers if isinstance(answer, Prepared)]
    refused = [answer for answer in answers if isinstance(answer, RbeeError)]
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, RbeeError):
            raise answer
    for error in refused if able else refused[1:]:
        (pool.reporter.detail if able else pool.reporter.warn)(error.message)
    if not able:
        raise refused[0]
    return able


async def _source(pool: ConnectionPool, wishes: list[ResolvedRequest]) -> deliver.Source | None:
    """The local file's identity, when a node would need it sent: every node but this machine."""
    for one in wishes:
        if one.local is not None and not one.node.embedded:
            return await deliver.identify(one.local, pool.registry, pool.reporter)
    return None


async def remotes_of(pool: ConnectionPool, wishes: list[ResolvedRequest]) -> Mapping[str, Remote | None]:
    """What a reference to the hub or a URL meant when it was last asked for, or else means now, by node: all
    the same, unless only the nodes themselves can tell; then those are left out that cannot. None of others.

    Not asked again: a model does not change because somebody uploads another one, and a node that has it
    needs no hub. `models pull` asks.
    """
    names, ref = [one.node.name for one in wishes], wishes[0].ref
    if not isinstance(ref, HubRef | UrlRef):
        return dict.fromkeys(names)
    known = from_memo(ref, pool.registry.facts(memo_key(ref)))
    if known is not None:
        return dict.fromkeys(names, known)
    from rbee_ssh.library.remote_reference import resolve_or_find

    return await resolve_or_find(pool, ref, names)


async def prepare(
    pool: ConnectionPool,
    wanted: ResolvedRequest,
    source: deliver.Source | None,
    remote: Remote | None,
    tries: int | None,
) -> Prepared:
    """One node asked for one wish.

    Args:
        source: the local file's identity; without it, a node is not asked whether it was sent before.
        remote: what a reference to the hub or a URL means.
        tries: how often an unreachable node is tried; None for the inventory's number.

    Raises:
        RbeeError: the way to the node, its engines, or the model on it.
    """
    node = wanted.node
    connection = await pool.connect(node.name, tries=tries)
    path = _path_on_node(wanted, source, remote)
    known = header.remembered(pool.registry, node.name, path) if path else None
    answer = await probe(
        connection,
        node,
        model_path=path,
        engine=wanted.engine,
        backend=wanted.backend,
        device=wanted.device,
        known_header=known.stamp if known else "",
        sums=_sums(source, remote),
    )
    look = records.parse(answer.snapshot)
    complain(connection, look)
    remember(pool, node.name, look)
    choice = choose_engine(
        answer.facts, node, engine=wanted.engine, backend=wanted.backend, device=wanted.device
    )
    model = _model(wanted, answer.facts, path, remote)
    return Prepared(
        request=wanted,
        connection=connection,
        facts=answer.facts,
        look=look,
        choice=choice,
        model=model,
        source=source,
        remote=remote,
        known=_known(pool, node.name, path, known, answer.facts.model) if model else None,
    )


def _sums(source: deliver.Source | None, remote: Remote | None) -> list[str]:
    """The SHA-256 that the files have to have; "" where nobody has told it."""
    if remote is not None:
        return [file.sha256 or "" for file in remote.files]
    return [source.sha256] if source is not None else []


def _known(
    pool: ConnectionPool, node: str, path: str, known: CachedHeader | None, file: ModelFile | None
) -> CachedHeader | None:
    """What is known of the file there: what was remembered of it, or what the probe has just brought."""
    if file is None or file.size is None or file.mtime is None:
        return None
    if known is not None and (known.size, known.mtime) == (file.size, file.mtime):
        return known
    if not file.head:
        return None
    known = CachedHeader(file.size, file.mtime, header.parse(file.head, file.size, file.path, node))
    header.remember(pool.registry, node, path, known)
    return known


def ssh_words(node: Node, nodes: Mapping[str, Node]) -> str:
    """What a user types behind `ssh` to get to a node. `nodes`: the inventory's, which a hop may name."""

    def address(there: Node) -> str:
        return f"{there.user}@{there.host}" if there.user else there.host

    def hop(name: str) -> str:
        port = nodes[name].port if name in nodes else None
        return (address(nodes[name]) if name in nodes else name) + (f":{port}" if port else "")

    words = ["-p", str(node.port)] if node.port not in (None, 22) else []
    if node.identity_file is not None:
        words += ["-i", str(node.identity_file)]
    if node.jump:
        words += ["-J", ",".join(map(hop, node.jump))]
    return " ".join(map(quote, [*words, address(node)]))


def _path_on_node(wanted: ResolvedRequest, source: deliver.Source | None, remote: Remote | None) -> str:
    """Where the model is, or will be, on the node."""
    if isinstance(wanted.ref, NodeFileRef):
        return wanted.ref.path
    if isinstance(wanted.ref, LocalFileRef):
        if wanted.node.embedded and wanted.local is not None:
            return wanted.local[0]
        return source.stored_as(wanted.node.models_dir) if source is not None else ""
    return in_store(wanted.node.models_dir, remote.files[0].place) if remote is not None else ""


def _model(wanted: ResolvedRequest, facts: Facts, path: str, remote: Remote | None) -> ModelOnNode | None:
    """The model file, None when it has to come there first.

    Raises:
        ModelNotFound: a file:// that is not on the node.
        ModelInvalid: it is there, and no GGUF file or not readable.
    """
    found = facts.model
    name = wanted.node.name
    if found is None or found.state == "missing":
        if isinstance(wanted.ref, NodeFileRef):
            here = quote(f"./{Path(path).name}")
            raise ModelNotFound(
                f"node {name!r} has no file {path}",
                hint=f"rbee infer --node {name} --model {here} …   # sends a local file there",
                details={"node": name, "path": path},
            )
        if wanted.node.embedded and remote is None:
            raise ModelNotFound(f"{path} is gone", details={"path": path})
        return None
    if wanted.local is not None and (found.size, found.total or found.size) != (
        wanted.local[1],
        wanted.local_bytes,
    ):
        return None
    if remote is not None and remote.size not in (found.total or found.size, None):
        return None
    if found.state == "differs":
        if not isinstance(wanted.ref, NodeFileRef):
            return None  # fetched or sent once more
        raise ModelInvalid(
            f"{path} on node {name!r} differs from its SHA-256",
            hint=f"rbee models rm {quote(path)} --node {name}   # then bring it there again",
            details={"node": name, "path": path},
        )
    if found.state != "gguf" or found.size is None or found.mtime is None:
        raise ModelInvalid(
            f"{path} on node {name!r} is "
            + ("not readable" if found.state == "unreadable" else "not a GGUF file"),
            hint="llama.cpp serves models in the GGUF format only"
            if found.state != "unreadable"
            else f"ssh {ssh_words(wanted.node, {})} ls -l {quote(quote(path))}",
            details={"node": name, "path": path},
        )
    part = part_of(path.rpartition("/")[2])
    if part is not None and found.parts is not None and found.parts < part.count:
        raise ModelInvalid(
            f"{path} on node {name!r} is the first of {part.count} parts, of which {found.parts} are there",
            hint=f"ssh {ssh_words(wanted.node, {})} ls -l {quote(quote(path.rpartition('/')[0]))}",
            details={"node": name, "path": path, "parts": found.parts},
        )
    return ModelOnNode(found.path or path, found.size, found.mtime, found.total or found.size)
