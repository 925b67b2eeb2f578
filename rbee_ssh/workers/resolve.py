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

from rbee_ssh.errors import BackendInvalid, ModelNotFound, UsageInvalid
from rbee_ssh.inventory import BACKENDS, Inventory, Node
from rbee_ssh.models.reference import LocalFileRef, Ref, UrlRef, parse_reference
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers.types import WorkerRequest

if TYPE_CHECKING:
    from rbee_ssh.engines.base import EngineFound

# What a slot remembers unless the user says otherwise. Not the model's own maximum, which for many models
# is 131,072 tokens and tens of GiB of cache.
DEFAULT_CONTEXT = 4096
STEP = 256  # tokens; llama.cpp rounds the context of a slot up to this (GGML_PAD in llama-context.cpp)


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A request with every setting decided, for one node."""

    node: Node
    ref: Ref
    shown: str  # the model as the user named it
    context: int
    parallel: int
    engine: str
    backend: str
    device: str | None
    args: tuple[str, ...]
    lease: float
    local: tuple[str, int, int] | None  # of a local file: path, size in bytes, mtime in ns
    local_bytes: int = 0  # of all its parts

    @property
    def fingerprint(self) -> str:
        """Equal for requests that mean the same, so far as can be known without asking the node."""
        node = self.node
        return _digest(
            [
                *(node.name, node.host, node.port, node.user, list(node.jump), node.models_dir),
                *(node.engine_path, node.python, [list(pair) for pair in node.env], node.listen),
                *(self._reference, list(self.local or ()), self.local_bytes, self.context, self.parallel),
                *(self.engine, self.backend, self.device, list(self.args)),
            ]
        )

    @property
    def _reference(self) -> str:
        # What a URL's display leaves out may be what tells two files apart. Only a hash is kept.
        if isinstance(self.ref, UrlRef):
            return f"{self.ref.url}#{self.ref.sha256 or ''}"
        return self.ref.display


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
    local = local_stamp(ref) if isinstance(ref, LocalFileRef) else None
    context = rounded(request.context or (preset.context if preset else None) or DEFAULT_CONTEXT)
    parallel = request.parallel or (preset.parallel if preset else None) or 1
    if context < 1 or parallel < 1:
        raise UsageInvalid("context and parallel are at least 1")
    backend = request.backend or node.backend
    if backend not in BACKENDS:
        raise BackendInvalid(f"{backend!r} is not a backend", hint="one of " + ", ".join(BACKENDS))
    return ResolvedRequest(
        node=node,
        ref=ref,
        shown=request.model if preset else ref.display,
        context=context,
        parallel=parallel,
        engine=request.engine or node.engine,
        backend=backend,
        device=request.device if request.device is not None else node.device,
        args=preset.args if preset else (),
        lease=node.lease,
        local=local,
        local_bytes=_total(local) if local else 0,
    )


def rounded(context: int) -> int:
    """The context that llama.cpp makes of it; of a few tokens it makes none, and aborts."""
    return -(-context // STEP) * STEP


def local_stamp(ref: LocalFileRef) -> tuple[str, int, int]:
    """(absolute path, size in bytes, mtime in ns) of a local model; of the first part of a split one.

    Raises:
        ModelNotFound: there is no such file, or it cannot be read.
    """
    path = Path(ref.path).expanduser()
    path = path.parent.resolve() / path.name
    from rbee_ssh.models.store import part_of

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
    return str(path), status.st_size, status.st_mtime_ns


def _total(local: tuple[str, int, int]) -> int:
    from rbee_ssh.models.outgoing import total

    return total(Path(local[0]))


def match(
    wanted: ResolvedRequest, engine: EngineFound, backend: str, path: str, size: int, mtime: int
) -> str:
    """The worker key: equal for two workers that would answer alike (design: "A worker is reused when").

    Args:
        path, size, mtime: of the model file on the node; bytes and Unix seconds.
    """
    return _digest(
        [
            *(path, size, mtime, engine.name, engine.path, engine.version),
            *(wanted.context, wanted.parallel, backend, wanted.device, wanted.node.listen),
            *([list(pair) for pair in wanted.node.env], list(wanted.args)),
        ]
    )


def _digest(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=True).encode()).hexdigest()[:32]
