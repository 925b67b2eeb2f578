"""A local model file on its way out: known by content, summed once, however many nodes it goes to."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.errors import ModelInvalid, ModelNotFound
from rbee_ssh.models.store import part_of
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import Reporter, SilentReporter
from rbee_ssh.ssh.quote import quote

MIB = 2**20
_SAMPLE = 64 * 1024
_SHA256 = re.compile("[0-9a-f]{64}")

Stamp = tuple[str, int, int]  # path, size in bytes, mtime in ns


class Outgoing:
    """One file. Its SHA-256 is made while the file is already being sent, where it is not known.

    Args:
        stamp: path, size in bytes, mtime in ns.
        sha256: when it is known; `remembered` tells it of a file that was sent before.
        name: what it is called, when that is not the last part of its path, as in a cache of links.

    Raises:
        ModelInvalid: not a GGUF file.
        ModelNotFound: it cannot be read.
    """

    def __init__(
        self, stamp: Stamp, registry: Registry, sha256: str | None = None, *, name: str | None = None
    ) -> None:
        self.path, self.size, self.mtime = stamp
        self.name = name or PurePosixPath(self.path).name
        self.sha256 = sha256
        self.key = _key(self.path, self.size)
        self._registry = registry
        self._summing: asyncio.Task[str] | None = None

    def begin(self) -> None:
        """Start to sum, in a thread of its own: what it has read comes from memory when it is sent."""
        self._start(SilentReporter())

    async def sum(self, reporter: Reporter) -> str:
        """The SHA-256, in the end.

        Raises:
            ModelInvalid: the file changes meanwhile.
            ModelNotFound: it is gone.
        """
        if self.sha256 is None:
            self.sha256 = await asyncio.shield(self._start(reporter))
        return self.sha256

    def _start(self, reporter: Reporter) -> asyncio.Task[str]:
        if self._summing is None:
            self._summing = asyncio.ensure_future(self._summed(reporter))
        return self._summing

    async def _summed(self, reporter: Reporter) -> str:
        if self.sha256 is None:
            stamp = (self.path, self.size, self.mtime)
            self.sha256 = await identify(stamp, self._registry, reporter)
        return self.sha256

    async def close(self) -> None:
        """Stop summing, when nobody wants it any more."""
        if self._summing is not None:
            self._summing.cancel()
            await asyncio.gather(self._summing, return_exceptions=True)

    def unchanged(self) -> bool:
        """Whether the file is what it was when it was asked for."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime)

    def changing(self) -> ModelInvalid:
        return _changing(self.path)


def stamp_of(path: Path) -> Stamp:
    """Absolute path, size and mtime of a local file.

    Raises:
        ModelNotFound: there is none, or it is no file.
    """
    try:
        # A link keeps its own name: what it leads to may have none that tells a part, as in the hub's cache.
        real = path.expanduser()
        real = real.parent.resolve() / real.name
        status = real.stat()
    except (OSError, RuntimeError) as error:
        raise ModelNotFound(
            f"{path}: {error.strerror if isinstance(error, OSError) else error}",
            hint=f"ls -l {quote(str(path.parent))}",
            details={"path": str(path)},
        ) from error
    if not real.is_file():
        raise ModelNotFound(
            f"{path} is not a file", hint=f"ls -l {quote(str(path))}", details={"path": str(path)}
        )
    return str(real), status.st_size, status.st_mtime_ns


async def model_files(path: Path, registry: Registry, sha256: str | None = None) -> list[Outgoing]:
    """The files of a local model: this one, or all parts of the split model that it is a part of, in order.

    Args:
        sha256: of the file itself, when it is known.

    Raises:
        ModelInvalid, ModelNotFound: one of them is no GGUF file, or is not there.
    """
    part = part_of(path.name)
    # Without parts as it stands: "." and ".." have no name that could be put in place of their own.
    paths = [path] if part is None else [path.with_name(name) for name in part.names()]
    files = []
    for each in paths:
        stamp = stamp_of(each)
        ready = (sha256 if each == path else None) or await remembered(stamp, registry)
        files.append(Outgoing(stamp, registry, ready, name=each.name))
    return files


def total(path: Path) -> int:
    """Bytes of a local model: of this file, or of all parts of the split model that begins with it.

    Raises:
        ModelNotFound: a part is not there.
    """
    part = part_of(path.name)
    return sum(stamp_of(path.with_name(name))[1] for name in (part.names() if part else (path.name,)))


def other_parts(stamp: Stamp) -> list[Stamp]:
    """Of the first part of a split model the other ones, in order; none of a model of one file.

    Raises:
        ModelNotFound: a part is not there.
    """
    path = Path(stamp[0])
    part = part_of(path.name)
    return [stamp_of(path.with_name(name)) for name in part.names()[1:]] if part else []


async def remembered(stamp: Stamp, registry: Registry) -> str | None:
    """The SHA-256 that was made when the file had this size and mtime."""
    path, size, mtime = stamp
    known = await registry.off_loop(registry.facts, f"sha256:{path}")
    if known and known.get("size") == size and known.get("mtime") == mtime:
        found = known.get("sha256")
        if isinstance(found, str) and _SHA256.fullmatch(found):
            return found
    return None


async def identify(stamp: Stamp, registry: Registry, reporter: Reporter) -> str:
    """The SHA-256 of a local file; remembered as long as size and mtime stay the same.

    Raises:
        ModelInvalid: not a GGUF file, or one that is still being written.
        ModelNotFound: it cannot be read.
    """
    path, size, mtime = stamp
    known = await remembered(stamp, registry)
    if known is not None:
        return known
    try:
        digest = await _hashed(path, reporter)
        after = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if (after.st_size, after.st_mtime_ns) != (size, mtime):
        raise _changing(path)
    await registry.off_loop(
        registry.put_facts, f"sha256:{path}", {"size": size, "mtime": mtime, "sha256": digest}
    )
    return digest


async def _hashed(path: str, reporter: Reporter) -> str:
    loop = asyncio.get_running_loop()
    unwanted = threading.Event()  # a thread cannot be cancelled: it looks for itself

    def on_piece(done: int, total: int) -> None:
        loop.call_soon_threadsafe(reporter.progress, "checksum", done, total)

    try:
        return await in_daemon_thread(lambda: _sum(path, on_piece, unwanted))
    finally:
        unwanted.set()


def _sum(path: str, on_piece: Callable[[int, int], None], unwanted: threading.Event) -> str:
    digest = hashlib.sha256()
    # Large pieces: between two of them, this thread and the one that sends wait for each other.
    buffer = memoryview(bytearray(8 * MIB))
    with open(path, "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        done = 0
        while not unwanted.is_set() and (count := file.readinto(buffer)):
            if done == 0 and bytes(buffer[:4]) != b"GGUF":
                raise _no_gguf(path)
            digest.update(buffer[:count])
            done += count
            on_piece(done, total)
    if done == 0:
        raise _no_gguf(path)
    return digest.hexdigest()


def _key(path: str, size: int) -> str:
    """What tells a file from others before all of it was read: its size and four pieces of it."""
    digest = hashlib.sha256(str(size).encode())
    try:
        with open(path, "rb", buffering=0) as file:
            for at in (0, size // 3, 2 * size // 3, max(size - _SAMPLE, 0)):
                file.seek(at)
                piece = file.read(_SAMPLE)
                if at == 0 and piece[:4] != b"GGUF":
                    raise _no_gguf(path)
                digest.update(piece)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()[:24]


def _no_gguf(path: str) -> ModelInvalid:
    return ModelInvalid(
        f"{path} is not a GGUF file",
        hint="llama.cpp serves models in the GGUF format only",
        details={"path": path},
    )


def _unreadable(path: str, error: OSError) -> ModelNotFound:
    return ModelNotFound(f"{path}: {error.strerror}", details={"path": path})


def _changing(path: str) -> ModelInvalid:
    return ModelInvalid(
        f"{path} changes while it is read: is it still being written?",
        hint=f"ls -l {quote(path)}   # and again when it is whole",
        details={"path": path},
    )
