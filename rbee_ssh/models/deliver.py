"""A local model file goes to a node: once, whole, and under a name that says what it holds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rbee_ssh.errors import (
    ChecksumMismatch,
    DiskFull,
    DiskShort,
    ModelInvalid,
    ModelNotFound,
    ShellUnusable,
)
from rbee_ssh.registry import Registry
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.quote import quote
from rbee_ssh.story import Story

RECEIVE = Path(__file__).with_name("receive.sh")
CHUNK = 256 * 1024
MIB = 2**20
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """A local file, known by content. `size` in bytes."""

    path: str
    size: int
    sha256: str

    def stored_as(self, models_dir: str) -> str:
        """Its path in a node's store: readable, and two files of one name do not meet."""
        return str(PurePosixPath(models_dir) / "local" / self.sha256[:12] / PurePosixPath(self.path).name)


async def identify(stamp: tuple[str, int, int], registry: Registry, story: Story) -> Source:
    """The SHA-256 of a local file; remembered as long as size and mtime stay the same.

    Args:
        stamp: path, size in bytes, mtime in ns.

    Raises:
        ModelInvalid: not a GGUF file, or one that is still being written.
        ModelNotFound: it cannot be read.
    """
    path, size, mtime = stamp
    known = registry.facts(f"sha256:{path}")
    if known and known.get("size") == size and known.get("mtime") == mtime:
        remembered = known.get("sha256")
        if isinstance(remembered, str) and _SHA256.fullmatch(remembered):
            return Source(path, size, remembered)
    try:
        digest = await _hashed(path, story)
        after = os.stat(path)
    except OSError as error:
        raise ModelNotFound(f"{path}: {error.strerror}", details={"path": path}) from error
    if (after.st_size, after.st_mtime_ns) != (size, mtime):
        raise _changing(path)
    registry.put_facts(f"sha256:{path}", {"size": size, "mtime": mtime, "sha256": digest})
    return Source(path, size, digest)


async def _hashed(path: str, story: Story) -> str:
    # A thread cannot be cancelled, and the program's end waits for it: it looks whether it is still wanted.
    unwanted = threading.Event()
    try:
        return await asyncio.to_thread(_sha256, path, story, unwanted)
    finally:
        unwanted.set()


def _sha256(path: str, story: Story, unwanted: threading.Event) -> str:
    digest = hashlib.sha256()
    total = Path(path).stat().st_size
    done = 0
    with open(path, "rb", buffering=0) as file:
        head = file.read(4)
        if head != b"GGUF":
            raise ModelInvalid(
                f"{path} is not a GGUF file",
                hint="llama.cpp serves models in the GGUF format only",
                details={"path": path},
            )
        digest.update(head)
        done = len(head)
        while not unwanted.is_set() and (data := file.read(4 * MIB)):
            digest.update(data)
            done += len(data)
            story.progress("checksum", done, total)
    return digest.hexdigest()


def _changing(path: str) -> ModelInvalid:
    return ModelInvalid(
        f"{path} changes while it is read: is it still being written?",
        hint=f"ls -l {quote(path)}   # and again when it is whole",
        details={"path": path},
    )


async def deliver(
    connection: Connection,
    source: Source,
    target: str,
    story: Story,
    *,
    free_bytes: int | None,
) -> tuple[str, int, int]:
    """Send the file and verify it there. The file is `.part` until its SHA-256 holds.

    Args:
        target: path on the node, absolute or with a leading ~/.
        free_bytes: free on the node's disk there, None when unknown.

    Returns:
        Absolute path on the node, size in bytes, mtime in Unix seconds.

    Raises:
        DiskShort, DiskFull: it does not fit, or stopped fitting; the partial file is removed.
        ChecksumMismatch: what arrived differs, twice.
        ModelInvalid, ModelNotFound: the local file changes meanwhile, or is gone.
        ShellUnusable: the models directory cannot be written.
        ConnectionLost: on the way.
    """
    if free_bytes is not None and free_bytes < source.size + 64 * MIB:
        raise DiskShort(
            f"node {connection.name!r} has {free_bytes // MIB} MiB free for models and "
            f"{PurePosixPath(source.path).name} needs {source.size // MIB} MiB",
            hint=f"free some space on {connection.name}, or set models_dir in the inventory",
            details={"need_bytes": source.size, "free_bytes": free_bytes},
        )
    note = json.dumps(
        {
            "source": source.path,
            "sha256": source.sha256,
            "size": source.size,
            "created": int(time.time()),
        }
    )
    for attempt in (1, 2):
        story.say(
            f"sending {PurePosixPath(source.path).name} ({source.size // MIB} MiB) to {connection.name}"
        )
        try:
            answer = await _send(connection, source, target, note, story)
        except OSError as error:
            raise ModelNotFound(f"{source.path}: {error.strerror}", details={"path": source.path}) from error
        placed = _placed(answer, source)
        if placed is not None:
            if not answer.get("sha256"):
                story.warn(f"{connection.name} has no SHA-256 program: only the size was compared")
            return placed
        if answer.get("problem") == "directory":
            raise ShellUnusable(
                f"node {connection.name!r}: {target} cannot be written",
                hint=f"set models_dir for {connection.name} in the inventory to a directory of that login's",
                details={"node": connection.name, "path": target},
            )
        if answer.get("problem") == "full":
            raise DiskFull(
                f"node {connection.name!r}: the disk filled while {target} was written; it was removed",
                hint=f"free some space on {connection.name}, or set models_dir in the inventory",
                details={"node": connection.name, "path": target},
            )
        if attempt == 1:
            story.warn(f"what arrived on {connection.name} differs from {source.path}; sending it once more")
    raise ChecksumMismatch(
        f"node {connection.name!r}: {target} differs from {source.path} after two tries",
        details={"expected": source.sha256, "got": answer.get("sha256")},
    )


def _placed(answer: Mapping[str, str], source: Source) -> tuple[str, int, int] | None:
    """Path, size and mtime of the file as the node has it, None when it has not; it may say anything."""
    path, size, mtime = (answer.get(key, "") for key in ("path", "size", "mtime"))
    if not path or answer.get("sha256") not in (source.sha256, ""):
        return None
    if size != str(source.size) or not (mtime.isascii() and mtime.isdigit() and len(mtime) < 19):
        return None
    return path, source.size, int(mtime)


async def _send(
    connection: Connection, source: Source, target: str, note: str, story: Story
) -> dict[str, str]:
    name = PurePosixPath(source.path).name
    args = [target, str(source.size), note, source.sha256]
    async with script.running(connection, script_text(), args, payload=True) as running:
        # Local reads of 256 KiB, between writes that wait for the network: nothing else runs meanwhile.
        with open(source.path, "rb", buffering=0) as file:  # noqa: ASYNC230
            done = 0
            while data := file.read(min(CHUNK, source.size - done)):
                if not await running.send(data):
                    break  # it ended early, and says why
                done += len(data)
                story.progress(f"sending {name}", done, source.size)
            else:
                if done < source.size:
                    raise _changing(source.path)
        running.end_payload()
        answer = dict([line.partition("\t")[::2] async for line in running.lines()])
        await running.finish()
    return answer


def script_text() -> str:
    """receive.sh as it is sent."""
    return RECEIVE.read_text(encoding="utf-8")
