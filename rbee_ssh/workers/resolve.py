"""From what was asked to what shall run: options over preset over node, and the two hashes made of it.

The fingerprint is of the request and needs no node: it leads a warm request to its worker. The match is of
what really runs, with the file and the engine as the node has them: equal matches are one worker.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rbee_ssh import inventory as inventories
from rbee_ssh.errors import BackendInvalid, ModelNotFound, UsageInvalid
from rbee_ssh.inventory import BACKENDS, Inventory, Node
from rbee_ssh.models.reference import LocalFileRef, NodeFileRef, Ref, UrlRef, parse_reference
from rbee_ssh.workers.types import WorkerRequest

if TYPE_CHECKING:
    from rbee_ssh.engines import EngineFound
    from rbee_ssh.models.deliver import Source
    from rbee_ssh.models.header import CachedHeader
    from rbee_ssh.models.remote import Remote

# What a slot remembers unless the user says otherwise. Not the model's own maximum, which for many models
# is 131,072 tokens and tens of GiB of cache.
DEFAULT_CONTEXT = 4096
STEP = 256  # tokens; llama.cpp rounds the context of a slot up to this (GGML_PAD in llama-context.cpp)


@dataclass(frozen=True, slots=True)
class FilesOnNode:
    """A model as a node has it: its first file's absolute path, bytes, mtime (Unix seconds); `total`: the
    bytes of all its parts."""

    path: str
    size: int
    mtime: int
    total: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model on its way to a node, stage by stage.

    Referenced (resolve): what the user named, and a file of this machine as it is now. Located (locate.py):
    where it is on the node or will be, and who has its bytes: a file here, or the hub or a URL. Present
    (prepare.py): the files as the node has them. The header is read at whichever stage it is needed first.
    """

    ref: Ref
    name: str  # as the user named it
    local: tuple[str, int, int] | None = None  # of a file of this machine: path, size in bytes, mtime in ns
    local_bytes: int = 0  # of all its parts
    source: Source | None = None
    remote: Remote | None = None
    path: str = ""  # on the node, absolute or with a leading ~/; "" where nobody can tell without reading it
    files: FilesOnNode | None = None
    header: CachedHeader | None = None

    @property
    def size(self) -> int:
        """Bytes with all parts, wherever it is now; 0 when nobody has told."""
        if self.files is not None:
            return self.files.total
        return self.local_bytes or (self.remote.size if self.remote else None) or 0


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A request with every setting decided, for one node."""

    node: Node
    model: Model
    context: int
    parallel: int
    engine: str
    backend: str
    device: str | None
    args: tuple[str, ...]
    lease: float
    evict: bool = True  # whether idle workers of ours may be stopped to make room

    @property
    def stored_sums(self) -> list[str] | None:
        """The SHA-256 that files of the node's store have to have, "" where nobody has told one; None of
        files that are used where they are."""
        model = self.model
        if isinstance(model.ref, NodeFileRef) or (isinstance(model.ref, LocalFileRef) and self.node.embedded):
            return None
        if model.remote is not None:
            return [file.sha256 or "" for file in model.remote.files]
        return [model.source.sha256, *model.source.others] if model.source is not None else []

    @property
    def fingerprint(self) -> str:
        """Equal for requests that mean the same, so far as can be known without asking the node."""
        node, model = self.node, self.model
        # What a URL's display leaves out may be what tells two files apart. Only a hash is kept.
        ref = model.ref
        reference = f"{ref.url}#{ref.sha256 or ''}" if isinstance(ref, UrlRef) else ref.display
        return _digest(
            [
                *(node.name, node.host, node.port, node.user, list(node.jump), node.models_dir),
                *(node.engine_path, node.python, [list(pair) for pair in node.env], node.listen),
                *(reference, list(model.local or ()), model.local_bytes, self.context, self.parallel),
                *(self.engine, self.backend, self.device, list(self.args)),
            ]
        )


def resolve_all(request: WorkerRequest, inventory: Inventory) -> list[ResolvedRequest]:
    """The request for the node that it names, or for each of the inventory.

    Raises:
        UsageInvalid: the inventory has no node.
        NodeUnknown, …: as `inventory.node` and `resolve`.
    """
    names = [request.node] if request.node is not None else list(inventory.nodes)
    if not names:
        raise UsageInvalid("the inventory has no node", hint="add a [nodes.NAME] with a host")
    return [resolve(request, inventory, inventories.node(inventory, name)) for name in names]


def resolve(request: WorkerRequest, inventory: Inventory, node: Node) -> ResolvedRequest:
    """Decide every setting of a request on a node.

    Raises:
        UsageInvalid: no model was named, or a number makes no sense.
        ModelRefInvalid, BackendInvalid: as they say.
        ModelNotFound: a local file, or a part of it, that is not there.
    """
    if not request.model:
        raise UsageInvalid(
            "no model was named",
            hint="add --model file:///path/on/the/node.gguf or ./local.gguf, or set model under [defaults]",
        )
    ref, preset = parse_reference(request.model, inventory)
    local, local_bytes = _local(ref) if isinstance(ref, LocalFileRef) else (None, 0)
    context = rounded(request.context or (preset.context if preset else None) or DEFAULT_CONTEXT)
    parallel = request.parallel or (preset.parallel if preset else None) or 1
    if context < 1 or parallel < 1:
        raise UsageInvalid("context and parallel are at least 1")
    backend = request.backend or node.backend
    if backend not in BACKENDS:
        raise BackendInvalid(f"{backend!r} is not a backend", hint="one of " + ", ".join(BACKENDS))
    return ResolvedRequest(
        node=node,
        model=Model(ref, request.model if preset else ref.display, local, local_bytes),
        context=context,
        parallel=parallel,
        engine=request.engine or node.engine,
        backend=backend,
        device=request.device if request.device is not None else node.device,
        args=preset.args if preset else (),
        lease=node.lease,
        evict=request.evict,
    )


def rounded(context: int) -> int:
    """The context that llama.cpp makes of it; of a few tokens it makes none, and aborts."""
    return -(-context // STEP) * STEP


def _local(ref: LocalFileRef) -> tuple[tuple[str, int, int], int]:
    """(absolute path, size in bytes, mtime in ns) of a local model, of the first part of a split one; the
    bytes of all parts.

    Raises:
        ModelNotFound: there is no such file, or it cannot be read.
    """
    from rbee_ssh.models.outgoing import total
    from rbee_ssh.models.store import part_of
    from rbee_ssh.ssh.quote import quote

    path = Path(ref.path).expanduser()
    path = path.parent.resolve() / path.name
    part = part_of(path.name)
    path = path.with_name(part.names()[0]) if part else path
    guess = f"if you meant a repository: --model {quote(ref.hub_guess)}" if ref.hub_guess else None
    try:
        status = path.stat()
    except OSError as error:
        raise ModelNotFound(
            f"{ref.display}: {error.strerror}",
            hint=guess or f"ls -l {quote(str(path.parent))}   # or file:///path for a file on the node",
            details={"path": str(path)},
        ) from error
    if not path.is_file():
        raise ModelNotFound(f"{ref.display} is not a file", hint=guess, details={"path": str(path)})
    return (str(path), status.st_size, status.st_mtime_ns), total(path)


def match(request: ResolvedRequest, engine: EngineFound, backend: str, files: FilesOnNode) -> str:
    """Equal for two workers that would answer alike (docs/architecture.md, "Fingerprint and match")."""
    return _digest(
        [
            *(files.path, files.size, files.mtime, engine.name, engine.path, engine.version),
            *(request.context, request.parallel, backend, request.device, request.node.listen),
            *([list(pair) for pair in request.node.env], list(request.args)),
        ]
    )


def _digest(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=True).encode()).hexdigest()[:32]
