"""The registry between real processes: none lost, none torn, and who holds the lock is named."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rbee_ssh.errors import RegistryLocked
from rbee_ssh.fleet.run import run_on
from rbee_ssh.fleet.status import node_status
from rbee_ssh.inventory import Inventory, Node
from rbee_ssh.models import header
from rbee_ssh.models.gguf import Gguf
from rbee_ssh.models.header import CachedHeader
from rbee_ssh.registry import Registry, WorkerEntry
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers.cleanup import cleanup
from rbee_ssh.workers.listing import list_workers
from rbee_ssh.workers.stop import stop_workers

ENTRY = WorkerEntry(
    id="w1",
    node="alpha",
    owner="0123456789abcdef",
    match="m1",
    requests=("r1",),
    model="hf:org/repo:Q4_K_M",
    engine="llama-server",
    socket="/run/w1/sock",
    port=None,
    api_key="secret",
    pid=4711,
    started="1234567",
    boot_id="b-1",
    directory="/state/w1",
    state="idle",
    lease=3600.0,
    alias="repo",
    context=None,
    parallel=1,
    created=100.0,
)


class Objecting:
    """A Story for which every warning is a failure: a killed command leaves nothing to warn of."""

    def say(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        raise AssertionError(text)

    def progress(self, label: str, done: int, total: int | None) -> None: ...


# --- what the processes do. Each is forked from a fresh, single-threaded Python, never from pytest.


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as problem:
            os.write(2, f"{problem!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def updates(path: Path, processes: int, each: int) -> None:
    """Every update of every process leaves a trace of its own: a worker's request, or a fact."""

    def work(name: int) -> None:
        registry = Registry(path, reporter=Objecting(), lock_timeout=60)
        for number in range(each):
            if number % 5 == 0:
                registry.put_facts(f"{name}-{number}", {"n": number})
            else:
                one = "shared" if number % 25 == 1 else f"{name}-{number // 10}"
                registry.put(replace(ENTRY, id=one, requests=(f"{name}-{number}",)))

    pids = [fork(lambda name=name: work(name)) for name in range(processes)]  # type: ignore[misc]
    wait_for_all(pids)


def wait_for_all(pids: list[int]) -> None:
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    if any(statuses):
        sys.exit(f"processes failed: {statuses}")


def kills(path: Path, times: int) -> None:
    """Kills writers at random moments; nothing that a writer had acknowledged may be lost or torn.

    Prints how many of them died between the making of the temporary file and its rename.
    """
    reporter = Objecting()
    registry = Registry(path, reporter=reporter)
    chance = random.Random(20)
    bulk = "x" * 20_000  # makes the write long enough to be hit
    last, midway = 0, 0
    for _ in range(times):
        told, tell = os.pipe()
        os.set_blocking(told, False)
        os.set_inheritable(tell, True)

        def write(tell: int = tell, since: int = last) -> None:
            mine = Registry(path, reporter=reporter)
            for number in range(since + 1, since + 10_000):
                mine.put(replace(ENTRY, created=float(number), directory=bulk))
                os.write(tell, b".")

        pid = fork(write)
        os.close(tell)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        acknowledged = last
        while chunk := _read(told):
            acknowledged += len(chunk)
        os.close(told)
        midway += path.with_name(".registry.json.tmp").exists()
        found = int(sum(entry.created for entry in registry.with_id("w1")))
        # The last write may have reached the disk before its acknowledgement reached us.
        if found not in (acknowledged, acknowledged + 1):
            sys.exit(f"{acknowledged} updates were acknowledged, {found} are there")
        last = found
    print(midway)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def client_ids(path: Path, processes: int) -> None:
    """Every process asks for the client id at the same moment and prints it."""
    start, go = os.pipe()

    def work() -> None:
        os.close(go)
        os.read(start, 1)
        os.write(1, f"{Registry(path, reporter=Objecting()).client_id()}\n".encode())

    pids = [fork(work) for _ in range(processes)]
    os.close(go)
    wait_for_all(pids)


def hold(path: Path, mode: str) -> None:
    """Holds the registry until stdin ends."""
    from rbee_ssh.registry.storage import locked

    lock = path.with_suffix(".lock")
    shared = mode == "shared"
    with locked(lock, shared=shared, timeout=1, say=print, command="rbee test"):
        print("held", flush=True)
        sys.stdin.read()


def small_files(path: Path) -> None:
    """Puts a worker where no file may grow beyond 4 KiB, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    class Printing(Objecting):
        def warn(self, text: str) -> None:
            print(text)

    registry = Registry(path, reporter=Printing())
    registry.put(replace(ENTRY, id="large", directory="x" * 10_000))
    registry.put(replace(ENTRY, id="large", directory="x" * 10_000))


# --- what is seen of it


def command(*arguments: object) -> list[str]:
    return [sys.executable, __file__, *map(str, arguments)]


def run(*arguments: object) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rbee" / "registry.json"


@pytest.fixture
def registry(path: Path) -> Registry:
    return Registry(path, reporter=Objecting(), lock_timeout=0.3)


def test_sixteen_processes_with_fifty_updates_each_lose_none(path: Path, registry: Registry) -> None:
    run("updates", path, 16, 50)
    every = {(name, number) for name in range(16) for number in range(50)}
    facts = {(name, number) for name, number in every if number % 5 == 0}
    assert [registry.facts(f"{name}-{number}") for name, number in facts] == [{"n": n} for _, n in facts]
    led = {request for entry in registry.workers() for request in entry.requests}
    assert led == {f"{name}-{number}" for name, number in every - facts}
    assert sorted(os.listdir(path.parent)) == ["registry.json", "registry.lock"]


def test_two_hundred_kills_in_the_middle_of_writes_tear_nothing(path: Path, registry: Registry) -> None:
    midway = int(run("kills", path, 200))
    assert midway > 0, "no kill hit a write: the test shows nothing"
    registry.put(ENTRY)
    assert registry.with_id("w1") == [ENTRY]
    assert sorted(os.listdir(path.parent)) == ["registry.json", "registry.lock"]


def test_processes_that_ask_at_once_agree_on_the_client_id(path: Path, registry: Registry) -> None:
    ids = run("client_ids", path, 8).split()
    assert ids == [registry.client_id()] * 8


def test_a_full_disk_is_one_warning_and_leaves_the_file_as_it_was(path: Path, registry: Registry) -> None:
    registry.put(ENTRY)
    told = run("small_files", path)
    assert told.count("nothing can be remembered") == 1
    assert "File too large" in told
    assert registry.workers() == [ENTRY]
    assert sorted(os.listdir(path.parent)) == ["registry.json", "registry.lock"]


@contextmanager
def held(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    holder = subprocess.Popen(
        command("hold", path, mode), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.stdin.close()


def test_a_held_lock_names_its_holder(path: Path, registry: Registry) -> None:
    registry.put(ENTRY)
    with held(path, "alone") as holder:
        for use in (registry.workers, lambda: registry.put(ENTRY)):
            began = time.monotonic()
            with pytest.raises(RegistryLocked) as refused:
                use()
            assert 0.3 <= time.monotonic() - began < 3
            assert f"process {holder.pid} (rbee test)" in refused.value.message
            assert refused.value.details["pid"] == holder.pid
            assert f"-p {holder.pid}" in (refused.value.hint or "")
    assert registry.workers() == [ENTRY]


def test_readers_do_not_keep_readers_out_and_do_keep_writers_out(path: Path, registry: Registry) -> None:
    registry.put(ENTRY)
    with held(path, "shared"):
        assert registry.workers() == [ENTRY]
        with pytest.raises(RegistryLocked):
            registry.put(replace(ENTRY, state="busy"))
    assert registry.workers() == [ENTRY]


def test_a_lock_dies_with_its_holder(path: Path, registry: Registry) -> None:
    registry.put(ENTRY)
    with held(path, "alone") as holder:
        holder.kill()
        holder.wait()
        assert registry.workers() == [ENTRY]


def test_who_waits_gets_the_registry_when_it_is_free(path: Path) -> None:
    patient = Registry(path, reporter=Objecting(), lock_timeout=30)
    patient.put(ENTRY)
    with held(path, "alone") as holder:
        waiting = subprocess.Popen(command("updates", path, 1, 2))
        time.sleep(0.3)
        assert waiting.poll() is None
        assert holder.stdin is not None
        holder.stdin.close()
        assert waiting.wait(timeout=20) == 0
    assert patient.with_id("shared")


def opened(pid: int, path: Path) -> bool:
    """Whether a process or a child of it has the file open; what ends or is closed while we look is gone."""
    with suppress(FileNotFoundError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *children):
            for link in Path(f"/proc/{each}/fd").iterdir():
                with suppress(FileNotFoundError):
                    if link.readlink() == path.resolve():
                        return True
    return False


def wait_for_open(process: subprocess.Popen[bytes], path: Path) -> None:
    end = time.monotonic() + 30
    while not opened(process.pid, path):
        assert time.monotonic() < end, f"{path} is not opened"
        time.sleep(0.01)


def test_a_lock_on_a_deleted_file_keeps_nobody_in(path: Path, registry: Registry) -> None:
    registry.put(ENTRY)
    with held(path, "alone") as first:
        waiting = subprocess.Popen(command("updates", path, 1, 1))
        wait_for_open(waiting, path.with_suffix(".lock"))
        path.with_suffix(".lock").unlink()
        with held(path, "alone"):
            assert first.stdin is not None
            first.stdin.close()
            first.wait()
            time.sleep(0.3)
            assert waiting.poll() is None
        assert waiting.wait(timeout=20) == 0
    assert registry.facts("0-0") == {"n": 0}


def test_a_held_lock_holds_up_no_stream(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands ask the registry waits for its lock; what another connection brings does not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    streaming, asking = (Inventory({name: Node(name, "localhost")}) for name in ("streams", "asked"))
    registry = Registry(path, reporter=Objecting(), lock_timeout=30)
    registry.put(replace(ENTRY, node="asked"))
    came: list[float] = []
    while_held: list[float] = []

    async def commands(pool: ConnectionPool) -> None:
        assert await list_workers(pool, ["asked"]) == ([], {})
        await asyncio.gather(
            node_status(pool, ["asked"], lambda status: None),
            cleanup(pool, idle=60, dry_run=True, any_owner=False),
            stop_workers(pool, (), node="asked", all_=False, any_owner=False, now=True),
            headers(pool),
        )

    async def headers(pool: ConnectionPool) -> None:
        await header.remember(pool.registry, "asked", "/m", CachedHeader(1, 2, Gguf(3, {})))
        assert await header.remembered(pool.registry, "asked", "/m") is not None

    async def work(holder: subprocess.Popen[str]) -> None:
        begun = asyncio.Event()

        def on_line(*_: object) -> None:
            begun.set()
            came.append(time.monotonic())

        async with (
            ConnectionPool(streaming, registry, Objecting()) as streams,
            ConnectionPool(asking, registry, Objecting()) as pool,
        ):
            await pool.connect("asked")
            ticks = ["while :; do echo tick; sleep 0.02; done"]
            stream = asyncio.create_task(run_on(streams, ["streams"], ticks, on_line, lambda end: None))
            await begun.wait()
            asked = asyncio.create_task(commands(pool))
            await asyncio.sleep(5)
            assert not asked.done()
            came.append(time.monotonic())
            while_held.extend(came)
            assert holder.stdin is not None
            holder.stdin.close()
            await asked
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)

    with held(path, "alone") as holder:
        asyncio.run(work(holder))
    gaps = [after - before for before, after in pairwise(while_held)]
    assert len(gaps) > 50
    assert max(gaps) < 0.2, f"nothing came for {max(gaps):.2f} s"


if __name__ == "__main__":
    target = Path(sys.argv[2])
    match sys.argv[1], sys.argv[3:]:
        case "updates", [processes, each]:
            updates(target, int(processes), int(each))
        case "kills", [times]:
            kills(target, int(times))
        case "client_ids", [processes]:
            client_ids(target, int(processes))
        case "hold", [mode]:
            hold(target, mode)
        case "small_files", []:
            small_files(target)
        case wrong:
            sys.exit(f"no such work: {wrong}")
