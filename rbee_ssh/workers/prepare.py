"""One node, asked for one request: connected, probed, and what it told put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rbee_ssh.errors import ModelInvalid, ModelNotFound, RbeeError
from rbee_ssh.models import header
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.models.reference import NodeFileRef
from rbee_ssh.node.choose import Choice, choose_engine
from rbee_ssh.node.facts import Facts, ModelFile
from rbee_ssh.node.probe import probe
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers import records
from rbee_ssh.workers.records import Record, WorkerSnapshot
from rbee_ssh.workers.resolve import FilesOnNode, Model, ResolvedRequest, match
from rbee_ssh.workers.types import LIVE_STATES


@dataclass(frozen=True, slots=True)
class Prepared:
    """A node that could serve a request: what its probe told, the engine chosen for it, the model there.

    `request.model` is the model as it was located; `model` is what has become of it.
    """

    request: ResolvedRequest
    connection: Connection
    facts: Facts
    snapshot: WorkerSnapshot
    choice: Choice
    model: Model

    @property
    def match(self) -> str | None:
        """Of the worker that would serve the request; None while the model is not there."""
        if self.model.files is None:
            return None
        return match(self.request, self.choice.engine, self.choice.backend, self.model.files)

    @property
    def same(self) -> Record | None:
        """A living worker that would serve the request, a ready one first."""
        if (wanted := self.match) is None:
            return None
        living = [r for r in self.snapshot.records if r.text("match") == wanted and r.state in LIVE_STATES]
        return min(living, key=lambda record: record.state not in ("idle", "busy"), default=None)

    @property
    def has_model(self) -> bool | None:
        """None where nobody can tell: a local file is known by its SHA-256, which was not made."""
        model = self.model
        if model.local is not None and model.source is None and not self.request.node.embedded:
            return None
        return model.files is not None


async def prepare_all(
    pool: ConnectionPool, requests: Sequence[ResolvedRequest]
) -> list[Prepared | RbeeError]:
    """Ask all nodes at once, each for its request: what is prepared there, or why nothing can be."""
    tries = None if len(requests) == 1 else 1
    answers = await asyncio.gather(
        *(prepare(pool, request, tries) for request in requests), return_exceptions=True
    )
    prepared: list[Prepared | RbeeError] = []
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, RbeeError):
            raise answer
        prepared.append(answer)
    return prepared


async def prepare(pool: ConnectionPool, request: ResolvedRequest, tries: int | None = None) -> Prepared:
    """Probe a node for a request whose model is located.

    Args:
        tries: how often an unreachable node is tried; None for the inventory's number.

    Raises:
        RbeeError: the connection to the node, its engines, or the model on it.
    """
    node, path = request.node, request.model.path
    connection = await pool.connect(node.name, tries=tries)
    cached = await header.remembered(pool.registry, node.name, path) if path else None
    answer = await probe(
        connection,
        node,
        model_path=path,
        engine=request.engine,
        backend=request.backend,
        device=request.device,
        known_header=cached.stamp if cached else "",
        stored=request.stored_sums,
    )
    snapshot = records.parse(answer.snapshot)
    records.complain(connection, snapshot)
    await records.remember(pool, node.name, snapshot)
    choice = choose_engine(
        answer.facts, node, engine=request.engine, backend=request.backend, device=request.device
    )
    model, file = request.model, answer.facts.model or ModelFile(path, "missing")
    if (files := present(request, file)) is not None:
        model = replace(model, files=files, header=await _header(pool, node.name, path, cached, file, files))
    return Prepared(request, connection, answer.facts, snapshot, choice, model)


async def _header(
    pool: ConnectionPool,
    node: str,
    path: str,
    cached: CachedHeader | None,
    file: ModelFile,
    files: FilesOnNode,
) -> CachedHeader | None:
    """Of the file there: what was remembered of it, or what the probe has just brought."""
    if cached is not None and (cached.size, cached.mtime) == (files.size, files.mtime):
        return cached
    if not file.head:
        return None
    brought = CachedHeader(files.size, files.mtime, header.parse(file.head, files.size, file.path, node))
    await header.remember(pool.registry, node, path, brought)
    return brought


def present(request: ResolvedRequest, file: ModelFile) -> FilesOnNode | None:
    """The model's files as the probe found them; None when they have to come there (again). Pure.

    Raises:
        ModelNotFound: a file:// that is not on the node.
        ModelInvalid: it is there, and no GGUF file or not readable.
    """
    model, name, path = request.model, request.node.name, request.model.path
    in_place = isinstance(model.ref, NodeFileRef)
    if file.state == "missing":
        if in_place:
            here = quote(f"./{Path(path).name}")
            raise ModelNotFound(
                f"node {name!r} has no file {path}",
                hint=f"rbee infer --node {name} --model {here} …   # sends a local file there",
                details={"node": name, "path": path},
            )
        if request.node.embedded and model.remote is None:
            raise ModelNotFound(f"{path} is gone", details={"path": path})
        return None
    total = file.total or file.size
    if model.local is not None and (file.size, total) != (model.local[1], model.local_bytes):
        return None
    if model.remote is not None and model.remote.size not in (total, None):
        return None
    if file.state == "unproven":
        return None  # looked for in the store, and proven there
    if file.state == "differs" and not in_place:
        return None
    if file.state != "gguf" or file.size is None or file.mtime is None:
        raise _unusable(request, file)
    if file.parts is not None and file.parts < _parts(path):
        raise ModelInvalid(
            f"{path} on node {name!r} is the first of {_parts(path)} parts, of which {file.parts} are there",
            hint=_ls(request, path.rpartition("/")[0]),
            details={"node": name, "path": path, "parts": file.parts},
        )
    return FilesOnNode(file.path or path, file.size, file.mtime, total or file.size)


def _unusable(request: ResolvedRequest, file: ModelFile) -> ModelInvalid:
    name, path = request.node.name, request.model.path
    problem, hint = "is not a GGUF file", "llama.cpp serves models in the GGUF format only"
    if file.state == "differs":
        problem = "differs from its SHA-256"
        hint = f"rbee models rm {quote(path)} --node {name}   # then bring it there again"
    elif file.state == "unreadable":
        problem = "is not readable"
        hint = _ls(request, path)
    return ModelInvalid(f"{path} on node {name!r} {problem}", hint=hint, details={"node": name, "path": path})


def _parts(path: str) -> int:
    """Of how many files the model is, by the name of this one."""
    from rbee_ssh.models.store import part_of

    part = part_of(path.rpartition("/")[2])
    return part.count if part is not None else 1


def _ls(request: ResolvedRequest, path: str) -> str:
    from rbee_ssh.node.remedies import ssh_words_of

    return f"ssh {ssh_words_of(request.node, {})} ls -l {quote(quote(path))}"
