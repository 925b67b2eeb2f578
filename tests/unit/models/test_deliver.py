"""A local model file on its way to a node: the real script under a real server, and servers that lie."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from unit.ssh.servers import Process, talk

from rbee_ssh.errors import (
    ChecksumMismatch,
    DiskShort,
    ModelInvalid,
    ModelNotFound,
    RbeeError,
    ShellUnusable,
)
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.models import deliver
from rbee_ssh.models.deliver import Source
from rbee_ssh.registry import Registry
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.wire import Wire
from rbee_ssh.story import Silent

Placed = tuple[str, int, int]
CONTENT = b"GGUF" + bytes(range(256)) * 3000


class Told(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.drawn: list[int] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, label: str, done: int, total: int | None) -> None:
        self.drawn.append(done)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "my model; $(rm) 'ü'.gguf"
    path.write_bytes(CONTENT)
    return path


def source_of(path: Path) -> Source:
    return Source(str(path), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


async def send(
    connection: Connection, source: Source, store: Path | str, story: Told
) -> tuple[str, int, int]:
    target = source.stored_as(str(store))
    return await deliver.deliver(connection, source, target, story, free_bytes=None)


def sent(source: Source, store: Path, story: Told) -> Placed:
    """To the node that this machine is."""

    async def work() -> Placed:
        connection = await Wire({}, Timeouts()).connect(Node("localhost", "localhost"))
        try:
            return await send(connection, source, store, story)
        finally:
            await connection.close()

    return asyncio.run(work())


def test_what_arrives_is_the_file_under_a_name_that_says_so(model: Path, tmp_path: Path) -> None:
    source, store, story = source_of(model), tmp_path / "a store", Told()
    path, size, mtime = sent(source, store, story)
    assert Path(path) == store / "local" / source.sha256[:12] / model.name
    assert Path(path).read_bytes() == CONTENT
    assert (size, mtime) == (len(CONTENT), int(Path(path).stat().st_mtime))
    note = json.loads(Path(path + ".json").read_text())
    assert (note["source"], note["sha256"], note["size"]) == (str(model), source.sha256, len(CONTENT))
    assert sorted(p.name for p in Path(path).parent.iterdir()) == [model.name, model.name + ".json"]
    assert story.drawn[-1] == len(CONTENT)
    assert story.drawn == sorted(story.drawn)


def test_a_second_sender_leaves_the_first_ones_file_alone(model: Path, tmp_path: Path) -> None:
    source = source_of(model)
    path, _, _ = sent(source, tmp_path / "store", Told())
    os.utime(path, (1000, 1000))
    before = Path(path).stat().st_ino
    assert sent(source, tmp_path / "store", Told()) == (path, len(CONTENT), 1000)
    assert Path(path).stat().st_ino == before, "a worker that has it open, or knows its mtime, keeps it"


def test_a_file_that_was_cut_short_is_replaced(model: Path, tmp_path: Path) -> None:
    source = source_of(model)
    path, _, _ = sent(source, tmp_path / "store", Told())
    Path(path).write_bytes(CONTENT[:100])
    sent(source, tmp_path / "store", Told())
    assert Path(path).read_bytes() == CONTENT


def test_a_store_that_cannot_be_written_is_said_at_once(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    story = Told()
    with pytest.raises(ShellUnusable, match="cannot be written") as refusal:
        sent(source_of(model), tmp_path / "a file", story)
    assert refusal.value.hint is not None
    assert "models_dir" in refusal.value.hint
    assert len(story.lines) == 1, "once is enough"


def test_other_content_than_was_announced_fails_after_two_tries(model: Path, tmp_path: Path) -> None:
    source, story = source_of(model), Told()
    model.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(ChecksumMismatch) as refusal:
        sent(source, tmp_path / "store", story)
    assert refusal.value.details["expected"] == source.sha256
    assert refusal.value.details["got"] == source_of(model).sha256
    assert not list((tmp_path / "store").rglob("*.gguf*")), "nothing is left"


def test_a_file_that_becomes_shorter_or_goes_away(model: Path, tmp_path: Path) -> None:
    source = source_of(model)
    model.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelInvalid, match="still being written"):
        sent(source, tmp_path / "store", Told())
    model.unlink()
    with pytest.raises(ModelNotFound):
        sent(source, tmp_path / "store", Told())


def test_too_little_space_is_said_before_a_byte_is_sent(model: Path) -> None:
    async def work(connection: Connection) -> None:
        await deliver.deliver(connection, source_of(model), "/store", Told(), free_bytes=len(CONTENT))

    with pytest.raises(DiskShort) as refusal:
        talk(None, work)
    assert refusal.value.details == {"need_bytes": len(CONTENT), "free_bytes": len(CONTENT)}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"path\t/x\n",
        b"path\t/x\nsize\tmany\nmtime\tlong ago\nsha256\t\n",
        b"path\t/x\nsize\t{size}\nmtime\t-1\nsha256\t{sha256}\n",
        b"path\t/x\nsize\t{size}\nmtime\t99999999999999999999999999\nsha256\t{sha256}\n",
        b"path\t/x\nsize\t1\nmtime\t1\nsha256\t{sha256}\n",
        b"path\t/x\nsize\t{size}\nmtime\t1\nsha256\tdeadbeef\n",
        b"\xff\xff\t\n" * 1000,
    ],
)
def test_a_node_that_answers_nonsense_has_not_got_the_file(model: Path, answer: bytes) -> None:
    source = source_of(model)
    said = answer.replace(b"{size}", b"%d" % source.size).replace(b"{sha256}", source.sha256.encode())

    async def shell(process: Process) -> None:
        text = b""
        while b"rbee_main\n" not in text:
            text += await process.stdin.read(65536)
        process.stdout.write(b"\nrbee-" + text.partition(b"rbee-")[2].partition(b"\n")[0] + b"\n")
        await process.stdin.read()
        process.stdout.write(said)
        process.exit(0)

    async def work(connection: Connection) -> object:
        return await send(connection, source, "/store", Told())

    with pytest.raises(RbeeError) as refusal:
        talk(shell, work)
    assert refusal.value.code == "CHECKSUM_MISMATCH"


def identified(path: Path, registry: Registry) -> Source:
    status = path.stat()
    stamp = (str(path), status.st_size, status.st_mtime_ns)
    return asyncio.run(deliver.identify(stamp, registry, Silent()))


def test_a_checksum_is_remembered_until_the_file_changes(model: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", story=Silent())
    first = identified(model, registry)
    assert first == source_of(model)
    assert registry.facts(f"sha256:{model}") is not None
    before = model.stat()
    model.write_bytes(CONTENT[::-1])
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identified(model, registry) == first, "size and mtime say that it is the same"
    model.write_bytes(b"GGUF" + CONTENT)
    assert identified(model, registry) == source_of(model) != first


@pytest.mark.parametrize("remembered", [None, 5, "", "../../etc/passwd", "A" * 64])
def test_a_remembered_checksum_that_is_none_is_made_anew(
    model: Path, tmp_path: Path, remembered: object
) -> None:
    registry = Registry(tmp_path / "registry.json", story=Silent())
    status = model.stat()
    fact = {"size": status.st_size, "mtime": status.st_mtime_ns, "sha256": remembered}
    registry.put_facts(f"sha256:{model}", {key: value for key, value in fact.items() if value is not None})
    assert identified(model, registry) == source_of(model)


def test_a_file_that_is_no_model_is_refused_and_not_remembered(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", story=Silent())
    path = tmp_path / "notes.gguf"
    path.write_text("no GGUF")
    with pytest.raises(ModelInvalid, match="not a GGUF file"):
        identified(path, registry)
    assert registry.facts(f"sha256:{path}") is None


def test_a_file_that_grows_while_it_is_read_is_not_remembered(model: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", story=Silent())
    stamp = (str(model), len(CONTENT) - 1, model.stat().st_mtime_ns)
    with pytest.raises(ModelInvalid, match="still being written"):
        asyncio.run(deliver.identify(stamp, registry, Silent()))
    assert registry.facts(f"sha256:{model}") is None


def test_a_checksum_in_the_making_does_not_outlive_its_command(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", story=Silent())
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(16 << 30)  # a hole: much work, and no disk

    async def work() -> None:
        status = path.stat()
        stamp = (str(path), status.st_size, status.st_mtime_ns)
        async with asyncio.timeout(0.1):
            await deliver.identify(stamp, registry, Silent())

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert time.monotonic() - began < 3
    assert registry.facts(f"sha256:{path}") is None
