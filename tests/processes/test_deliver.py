"""A local model file on its way to a node: the real script under a real server, and servers that lie."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from unit.ssh.servers import Process, more, talk

from rbee_ssh.errors import (
    ChecksumMismatch,
    ConnectionLost,
    DiskShort,
    ModelInvalid,
    ModelNotFound,
    RbeeError,
    ShellUnusable,
)
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.models import deliver, receiver
from rbee_ssh.models.outgoing import Outgoing
from rbee_ssh.models.receiver import Placed
from rbee_ssh.models.store import read_note
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.connector import Connector

CONTENT = b"GGUF" + bytes(range(256)) * 3000


class UrlMetadata(SilentReporter):
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


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def outgoing(path: Path, registry: Path, sha256: str | None = None) -> Outgoing:
    status = path.stat()
    stamp = (str(path), status.st_size, status.st_mtime_ns)
    return Outgoing(stamp, Registry(registry / "registry.json", reporter=SilentReporter()), sha256)


async def send(connection: Connection, file: Outgoing, store: Path | str, reporter: UrlMetadata) -> Placed:
    try:
        return await deliver.deliver(connection, file, str(store), reporter)
    finally:
        await file.close()


def sent(file: Outgoing, store: Path, reporter: UrlMetadata) -> Placed:
    """To the node that this machine is."""

    async def work() -> Placed:
        connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))
        try:
            return await send(connection, file, store, reporter)
        finally:
            await connection.close()

    return asyncio.run(work())


@pytest.fixture(autouse=True)
def a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the node that this machine is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_what_arrives_is_the_file_under_a_name_that_says_so(model: Path, tmp_path: Path) -> None:
    sha256, store, reporter = sha256_of(model), tmp_path / "a store", UrlMetadata()
    placed = sent(outgoing(model, tmp_path), store, reporter)
    path = Path(placed.path)
    assert path == store / "local" / sha256[:12] / model.name
    assert path.read_bytes() == CONTENT
    assert (placed.size, placed.mtime) == (len(CONTENT), int(path.stat().st_mtime))
    note = read_note(Path(f"{path}.json").read_text())
    assert (note.source, note.sha256, note.size) == (str(model), sha256, len(CONTENT))
    assert note.verified == note.fetched
    assert (note.fetched or 0) <= (note.last_used or 0), "by the clock of the node"
    assert sorted(p.name for p in path.parent.iterdir()) == [model.name, model.name + ".json"]
    assert list((store / f".incoming-{os.getuid()}").iterdir()) == []
    assert reporter.drawn[-1] == len(CONTENT)
    assert reporter.drawn == sorted(reporter.drawn)


@pytest.mark.parametrize("known", [True, False])
def test_what_the_node_has_is_not_sent_again(model: Path, tmp_path: Path, known: bool) -> None:
    """Under whatever name; also when the file's sum is not known beforehand."""
    first = sent(outgoing(model, tmp_path), tmp_path / "store", UrlMetadata())
    before = Path(first.path).stat()
    twin = tmp_path / "twin.gguf"
    twin.write_bytes(CONTENT)
    other = outgoing(twin, tmp_path / "another", sha256_of(twin) if known else None)
    reporter = UrlMetadata()
    assert sent(other, tmp_path / "store", reporter) == first
    assert Path(first.path).stat() == before, "a worker that has it open, or knows its mtime, keeps it"
    assert reporter.lines == [f"twin.gguf is on localhost already: {first.path}"]


def test_another_file_of_that_size_is_sent(model: Path, tmp_path: Path) -> None:
    sent(outgoing(model, tmp_path), tmp_path / "store", UrlMetadata())
    other = tmp_path / "other.gguf"
    other.write_bytes(CONTENT[:-1] + b"?")
    placed = sent(outgoing(other, tmp_path), tmp_path / "store", UrlMetadata())
    assert Path(placed.path).read_bytes() == other.read_bytes()


def test_a_file_that_was_cut_short_is_replaced(model: Path, tmp_path: Path) -> None:
    path = sent(outgoing(model, tmp_path), tmp_path / "store", UrlMetadata()).path
    Path(path).write_bytes(CONTENT[:100])
    assert sent(outgoing(model, tmp_path), tmp_path / "store", UrlMetadata()).path == path
    assert Path(path).read_bytes() == CONTENT


def test_what_arrived_before_a_cut_is_not_sent_again(model: Path, tmp_path: Path) -> None:
    file, reporter = outgoing(model, tmp_path), UrlMetadata()
    part = tmp_path / "store" / f".incoming-{os.getuid()}" / f"{file.key}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:500_000])
    placed = sent(file, tmp_path / "store", reporter)
    assert Path(placed.path).read_bytes() == CONTENT
    assert reporter.drawn[0] == 500_000
    assert "0 of 0 MiB are there" in reporter.lines[0]


def test_a_part_that_is_something_else_is_sent_anew(model: Path, tmp_path: Path) -> None:
    file, reporter = outgoing(model, tmp_path), UrlMetadata()
    part = tmp_path / "store" / f".incoming-{os.getuid()}" / f"{file.key}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 500_000)
    placed = sent(file, tmp_path / "store", reporter)
    assert Path(placed.path).read_bytes() == CONTENT
    assert any("differs" in line for line in reporter.lines)


def test_a_second_sender_waits_for_the_first(model: Path, tmp_path: Path) -> None:
    """And takes over when the first one's bytes stop coming, as after a cut that no one was told of."""

    async def work() -> tuple[Placed, UrlMetadata]:
        wire = Connector({}, Timeouts())
        first = await wire.connect(Node("localhost", "localhost"))
        second = await wire.connect(Node("localhost", "localhost"))
        file, reporter = outgoing(model, tmp_path), UrlMetadata()
        store = str(tmp_path / "store")
        incoming = receiver.Incoming(store, file.key, file.size, file.name)
        try:
            async with receiver.receiving(first, incoming, UrlMetadata()) as ready:
                assert isinstance(ready, receiver.Receiver)
                await ready.send(CONTENT[:400_000])
                return await send(second, file, store, reporter), reporter
        finally:
            await first.close()
            await second.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiver, "BUSY_LOOK", 0.1)
        patch.setattr(receiver, "BUSY_STALLED", 0.6)
        placed, reporter = asyncio.run(work())
    assert Path(placed.path).read_bytes() == CONTENT
    assert "another command sends" in reporter.lines[0]
    assert 400_000 in reporter.drawn, "what the first one had sent stays"


def test_a_store_that_cannot_be_written_is_said_at_once(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    reporter = UrlMetadata()
    with pytest.raises(ShellUnusable, match="cannot be written") as refusal:
        sent(outgoing(model, tmp_path), tmp_path / "a file", reporter)
    assert refusal.value.hint is not None
    assert "models_dir" in refusal.value.hint
    assert reporter.lines == []


def test_other_content_than_was_announced_fails_after_two_tries(model: Path, tmp_path: Path) -> None:
    reporter, wrong = UrlMetadata(), "0" * 64
    with pytest.raises(ChecksumMismatch) as refusal:
        sent(outgoing(model, tmp_path, wrong), tmp_path / "store", reporter)
    assert refusal.value.details == {"expected": wrong, "got": sha256_of(model)}
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()], "nothing is left"


def test_a_file_that_becomes_shorter_or_goes_away(model: Path, tmp_path: Path) -> None:
    file = outgoing(model, tmp_path)
    model.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelInvalid, match="still being written"):
        sent(file, tmp_path / "store", UrlMetadata())
    file = outgoing(model, tmp_path)
    model.unlink()
    with pytest.raises(ModelNotFound):
        sent(file, tmp_path / "store", UrlMetadata())


def test_too_little_space_is_said_before_a_byte_is_sent(model: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge.gguf"
    with huge.open("wb") as holes:
        holes.write(b"GGUF")
        holes.truncate(1 << 43)
    reporter = UrlMetadata()
    with pytest.raises(DiskShort) as refusal:
        sent(outgoing(huge, tmp_path, "0" * 64), tmp_path / "store", reporter)
    assert refusal.value.details["need_bytes"] == 1 << 43
    assert refusal.value.details["free_bytes"] < 1 << 43
    assert reporter.drawn == []


def test_room_for_all_parts_is_asked_for_before_the_first(tmp_path: Path) -> None:
    """The second one would fit, and goes first."""
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    with parts[0].open("wb") as holes:
        holes.write(b"GGUF")
        holes.truncate(1 << 43)
    parts[1].write_bytes(CONTENT)
    files = [outgoing(path, tmp_path, str(n) * 64) for n, path in enumerate(parts)]
    reporter = UrlMetadata()

    async def work() -> None:
        connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))
        try:
            await deliver.deliver_all(connection, files, str(tmp_path / "store"), reporter)
        finally:
            await connection.close()

    with pytest.raises(DiskShort) as refusal:
        asyncio.run(work())
    assert refusal.value.details["need_bytes"] == (1 << 43) + len(CONTENT)
    assert reporter.drawn == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"path\t/x\n",
        b"path\t../x\nsize\t{size}\nmtime\t1\n",
        b"path\t/x\nsize\tmany\nmtime\tlong ago\n",
        b"path\t/x\nsize\t{size}\nmtime\t-1\n",
        b"path\t/x\nsize\t{size}\nmtime\t99999999999999999999999999\n",
        b"path\t/x\nsize\t1\nmtime\t1\n",
        b"have\t99999999999\nfree\tmuch\nreceived\t{size}\nsha256\tdeadbeef\n",
        b"have\t-1\nfree\t\nproblem\tnone that we know\n",
        b"\xff\xff\t\n" * 1000,
    ],
)
def test_a_node_that_answers_nonsense_has_not_got_the_file(
    model: Path, tmp_path: Path, answer: bytes
) -> None:
    sha256 = sha256_of(model)
    said = answer.replace(b"{size}", b"%d" % len(CONTENT)).replace(b"{sha256}", sha256.encode())

    async def shell(process: Process) -> None:
        text = b""
        while b"exit $?\n" not in text:
            text += await more(process)
        process.stdout.write(b"\nrbee-" + text.partition(b"rbee-")[2].partition(b"\n")[0] + b"\n")
        process.stdout.write(said)
        process.exit(0)

    async def work(connection: Connection) -> object:
        return await send(connection, outgoing(model, tmp_path, sha256), "/store", UrlMetadata())

    with pytest.raises(RbeeError):
        talk(shell, work)


@pytest.mark.parametrize("reads", [False, True])
def test_a_node_that_takes_nothing_any_more_is_not_waited_for(tmp_path: Path, reads: bool) -> None:
    """As one whose network disk hangs: its kernel and its sshd answer as ever."""
    large = tmp_path / "large.gguf"
    with large.open("wb") as holes:
        holes.write(b"GGUF")
        holes.truncate(16 << 20)

    async def shell(process: Process) -> None:
        text = b""
        while b"exit $?\n" not in text:
            text += await more(process)
        process.stdout.write(b"\nrbee-" + text.partition(b"rbee-")[2].partition(b"\n")[0] + b"\n")
        process.stdout.write(b"have\t0\nlater\t0\nfree\t99999999\n")
        while reads and await process.stdin.read(1 << 20):
            pass
        await asyncio.Event().wait()

    async def work(connection: Connection) -> object:
        return await send(connection, outgoing(large, tmp_path, "0" * 64), "/store", UrlMetadata())

    with pytest.raises(ConnectionLost, match=r"took nothing of large\.gguf") as caught:
        talk(shell, work, timeouts=Timeouts(download_stall=0.3))
    assert "goes on where it stopped" in str(caught.value.hint)


@pytest.mark.parametrize("owners", ["a", "ab"])
def test_only_a_transfer_that_stands_still_itself_is_taken_over(
    model: Path, tmp_path: Path, owners: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has just taken over from a dead one has as many bytes as that one had."""
    monkeypatch.setattr(receiver, "BUSY_LOOK", 0.01)
    monkeypatch.setattr(receiver, "BUSY_STALLED", 0.03)
    asked: list[bool] = []

    async def shell(process: Process) -> None:
        text = b""
        while b"exit $?\n" not in text:
            text += await more(process)
        process.stdout.write(b"\nrbee-" + text.partition(b"rbee-")[2].partition(b"\n")[0] + b"\n")
        asked.append(b" take " in text.partition(b"rbee_main() {\nset -- ")[2][:600])
        owner = owners[len(asked) % len(owners)]
        process.stdout.write(
            b"path\t/x\nsize\t%d\nmtime\t1\n" % len(CONTENT)
            if len(asked) == 10
            else b"busy\t5\nowner\t%s 1 boot\n" % owner.encode()
        )
        process.exit(0)

    async def work(connection: Connection) -> object:
        return await send(connection, outgoing(model, tmp_path, sha256_of(model)), "/store", UrlMetadata())

    talk(shell, work)
    assert any(asked) is (owners == "a"), asked
