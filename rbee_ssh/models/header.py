"""Getting at the header of a model file: here, on a node in as few bytes as it takes, or as it is
remembered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.errors import ModelInvalid, ResponseInvalid
from rbee_ssh.models import gguf
from rbee_ssh.models.gguf import Gguf, Malformed
from rbee_ssh.registry import Registry
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection

FIRST_PIECE = 256 * 1024

READ_SECONDS = 120.0

# $1 the file, $2 the most bytes that are wanted. Whoever reads goes away as soon as it has enough.
READ = 'head -c "$2" "$1" 2>/dev/null\n'


@dataclass(frozen=True, slots=True)
class CachedHeader:
    """What is remembered of a model file on a node, as long as its size and mtime are the same.

    `measured`: bytes by what a worker was started with (`label`) and by the kind of memory, "ram" or
    "device".
    """

    size: int
    mtime: int
    header: Gguf
    measured: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def stamp(self) -> str:
        """What the probe is told, so that it does not send the header again."""
        return f"{self.size}:{self.mtime}"


def label(engine: str, backend: str, context: int, parallel: int, also: Sequence[str] = ()) -> str:
    """What a measurement is kept under. `also`: device, arguments and environment; they may hold a secret."""
    text = f"{engine} {backend} {context}x{parallel}"
    if any(also):
        text += " " + hashlib.sha256("\0".join(also).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return text


async def remembered(registry: Registry, node: str, path: str) -> CachedHeader | None:
    """What an earlier command learned of this file."""
    value = await registry.off_loop(registry.facts, _key(node, path))
    if not value or not isinstance(value.get("header"), dict):
        return None
    header, size, mtime = gguf.from_json(value["header"]), value.get("size"), value.get("mtime")
    if header is None or not isinstance(size, int) or not isinstance(mtime, int):
        return None
    return CachedHeader(size, mtime, header, _measured(value.get("measured")))


async def remember(registry: Registry, node: str, path: str, known: CachedHeader) -> None:
    """Keep it for the next command."""
    value: dict[str, Any] = {"size": known.size, "mtime": known.mtime, "header": known.header.as_json()}
    value["measured"] = {label: dict(sizes) for label, sizes in known.measured.items()}
    await registry.off_loop(registry.put_facts, _key(node, path), value)


def measured(known: CachedHeader, name: str, sizes: Mapping[str, int]) -> CachedHeader:
    """With one more measurement; of an older one with the same label the larger numbers stay."""
    before = known.measured.get(name, {})
    kept = {kind: max(size, before.get(kind, 0)) for kind, size in sizes.items()}
    return replace(known, measured={**known.measured, name: {**before, **kept}})


def parse(data: bytes, size: int, path: str, node: str | None = None) -> Gguf:
    """`gguf.parse`, its refusal told as an error.

    Raises:
        ModelInvalid: not a GGUF file that can be served.
    """
    try:
        return gguf.parse(data, size)
    except Malformed as error:
        raise invalid(path, node, error) from error


def invalid(path: str, node: str | None, error: Malformed) -> ModelInvalid:
    """The refusal of a header as an error."""
    return ModelInvalid(
        f"{path}" + (f" on node {node!r}" if node else "") + f" cannot be served: {error}",
        hint="llama.cpp serves whole models in the GGUF format, version 2 or 3",
        details={"path": path} | ({"node": node} if node else {}),
    )


async def read_local(path: str) -> Gguf:
    """The whole header of a file of this machine.

    Raises:
        ModelInvalid: no GGUF, or cut short.
        OSError: it cannot be read.
    """
    return await in_daemon_thread(lambda: _read_local(Path(path)))


async def refuse_cut(path: str) -> None:
    """Let through what is whole as far as its header tells, also what is no model that we know.

    Raises:
        ModelInvalid: the header is whole, and the file ends before what it announces.
    """
    try:
        await read_local(path)
    except ModelInvalid as error:
        if isinstance(error.__cause__, gguf.CutShort):
            raise
    except OSError:
        return  # whoever sends it says so


def _read_local(path: Path) -> Gguf:
    with path.open("rb") as file:
        return read(file, path.stat().st_size, str(path))


def read(file: BinaryIO, size: int, path: str) -> Gguf:
    """The whole header of what can be read from its beginning.

    Raises:
        ModelInvalid: no GGUF, or cut short.
        OSError: it cannot be read.
    """
    data = file.read(FIRST_PIECE)
    while (found := parse(data, size, path)).wants:
        more = file.read(min(max(found.wants - len(data), len(data)), gguf.MAX_HEADER))
        if not more:
            break
        data += more
    return found


async def read_on_node(connection: Connection, path: str, size: int) -> Gguf:
    """The whole header of a file on a node: one round trip, and little more than the header's bytes.

    Raises:
        ModelInvalid: no GGUF, or cut short.
        ResponseInvalid: it does not come.
        NodeFault: the connection or its shell.
    """
    data = bytearray()
    found = Gguf(0, {}, wants=24)
    try:
        async with (
            asyncio.timeout(READ_SECONDS),
            script.running(connection, READ, [path, str(gguf.MAX_HEADER)]) as reading,
        ):
            enough = FIRST_PIECE
            while found.wants and (piece := await reading.read()):
                data += piece
                if len(data) >= enough:
                    # Each look begins anew, so the next one comes when there is twice as much.
                    found = parse(_begin(data), size, path, connection.name)
                    enough = min(2 * len(data), gguf.MAX_HEADER)
    except TimeoutError:
        raise ResponseInvalid(
            f"node {connection.name!r}: the header of {path} did not come within {READ_SECONDS:.0f} s",
            hint=f"rbee --verbose nodes status {connection.name}",
            details={"node": connection.name, "path": path},
        ) from None
    return parse(_begin(data), size, path, connection.name) if found.wants else found


def _begin(data: bytearray) -> bytes:
    """As much of it as is read, copied once."""
    return bytes(memoryview(data)[: gguf.MAX_HEADER])


def _key(node: str, path: str) -> str:
    return f"model:{node}:{path}"


def _measured(value: Any) -> dict[str, dict[str, int]]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name): {str(kind): size for kind, size in sizes.items() if isinstance(size, int) and size >= 0}
        for name, sizes in value.items()
        if isinstance(sizes, dict)
    }
