"""What the registry remembers, what it sets aside, and what it tells when it cannot."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import rbee_ssh
from rbee_ssh.registry import Registry, WorkerEntry, default_path
from rbee_ssh.registry import worker_entry as entries
from rbee_ssh.registry.registry import MAX_FACTS
from rbee_ssh.registry.storage import Foreign, LockHolder, parse, parse_holder, refusal
from rbee_ssh.registry.worker_entry import MAX_REQUESTS, decode, encode

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
    api_key="very-secret",
    pid=4711,
    started="1234567",
    boot_id="b-1",
    directory="/state/w1",
    state="idle",
    lease=3600.0,
    alias="repo",
    context=4096,
    parallel=1,
    created=100.0,
)


class Listener:
    """A Story that keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, label: str, done: int, total: int | None) -> None: ...


@pytest.fixture
def reporter() -> Listener:
    return Listener()


@pytest.fixture
def registry(tmp_path: Path, reporter: Listener) -> Registry:
    return Registry(tmp_path / "rbee" / "registry.json", reporter=reporter)


def again(registry: Registry, reporter: Listener) -> Registry:
    """Another command's view of the same file."""
    return Registry(registry.path, reporter=reporter)


def test_remembers_a_worker_as_it_was_put(registry: Registry, reporter: Listener) -> None:
    registry.put(ENTRY)
    assert again(registry, reporter).workers() == [ENTRY]
    assert again(registry, reporter).with_id("w1") == [ENTRY]
    assert registry.with_id("w2") == []
    assert reporter.warnings == []


def test_put_replaces_by_id_and_merges_the_requests(registry: Registry) -> None:
    registry.put(ENTRY)
    registry.put(replace(ENTRY, state="busy", requests=("r2", "r1")))
    assert registry.workers() == [replace(ENTRY, state="busy", requests=("r1", "r2"))]


def test_a_node_cannot_take_the_place_of_another_nodes_worker(registry: Registry, reporter: Listener) -> None:
    registry.put(ENTRY)
    theirs = replace(ENTRY, node="beta", requests=(), socket="/tmp/evil", created=999.0)
    registry.sync_node("beta", [theirs])
    assert registry.warm("r1") == [ENTRY]
    assert registry.workers() == [ENTRY, theirs]
    assert again(registry, reporter).with_id("w1") == [ENTRY, theirs]
    registry.put(replace(theirs, requests=("r2",)))
    assert registry.warm("r1") == [ENTRY]
    registry.forget("beta", "w1")
    assert registry.workers() == [ENTRY]
    registry.put(theirs)
    registry.sync_node("alpha", [])
    assert registry.workers() == [theirs]


def test_a_registry_of_the_version_before_is_read_and_forgotten_from(registry: Registry) -> None:
    """There a worker was kept under its id alone."""
    registry.put(ENTRY)
    tables = json.loads(registry.path.read_text())
    tables["workers"] = {"w1": encode(ENTRY)}
    registry.path.write_text(json.dumps(tables))
    registry.put(replace(ENTRY, state="busy"))
    assert registry.workers() == [replace(ENTRY, state="busy")]
    registry.forget("alpha", "w1")
    assert registry.workers() == []


def test_requests_of_one_worker_are_capped_at_the_newest(registry: Registry) -> None:
    many = tuple(f"r{number}" for number in range(MAX_REQUESTS + 5))
    registry.put(replace(ENTRY, requests=many))
    assert registry.workers()[0].requests == many[5:]


def test_workers_of_one_node_oldest_first(registry: Registry) -> None:
    late, early = replace(ENTRY, id="w3", created=300.0), replace(ENTRY, id="w2", created=50.0)
    for one in (late, early, replace(ENTRY, id="w4", node="beta")):
        registry.put(one)
    assert registry.workers("alpha") == [early, late]
    assert len(registry.workers()) == 3


def test_forget_forgets_only_that_one(registry: Registry) -> None:
    registry.put(ENTRY)
    registry.put(replace(ENTRY, id="w2"))
    registry.forget("alpha", "w1")
    registry.forget("alpha", "never-seen")
    assert [entry.id for entry in registry.workers()] == ["w2"]


def test_warm_is_newest_first_and_leaves_out_the_ended(registry: Registry) -> None:
    states = ("idle", "stopped", "loading", "failed", "dead", "unknown")
    for number, state in enumerate(states):
        registry.put(replace(ENTRY, id=state, state=state, created=float(number)))
    registry.put(replace(ENTRY, id="other", requests=("r2",), created=99.0))
    assert [entry.id for entry in registry.warm("r1")] == ["unknown", "loading", "idle"]
    assert registry.warm("r3") == []


def test_sync_node_makes_the_node_the_truth(registry: Registry) -> None:
    registry.put(ENTRY)
    registry.put(replace(ENTRY, id="gone"))
    elsewhere = replace(ENTRY, id="elsewhere", node="beta")
    registry.put(elsewhere)
    told = replace(ENTRY, requests=(), state="busy")
    registry.sync_node("alpha", [told, replace(ENTRY, id="new", requests=("r9",))])
    assert {entry.id: entry.requests for entry in registry.workers("alpha")} == {
        "w1": ("r1",),
        "new": ("r9",),
    }
    assert registry.with_id("w1") == [replace(ENTRY, state="busy")]
    assert registry.workers("beta") == [elsewhere]
    registry.sync_node("alpha", [])
    assert registry.workers() == [elsewhere]


def test_facts_are_kept_by_key(registry: Registry) -> None:
    registry.put_facts("node/alpha", {"cpus": 2, "gpus": [{"name": "x"}]})
    registry.put_facts("node/beta", {"cpus": 4})
    registry.put_facts("node/alpha", {"cpus": 8})
    assert registry.facts("node/alpha") == {"cpus": 8}
    assert registry.facts("node/beta") == {"cpus": 4}
    assert registry.facts("node/gamma") is None
    assert registry.facts_under("node/") == [{"cpus": 8}, {"cpus": 4}]
    assert registry.facts_under("node/b") == [{"cpus": 4}]
    assert registry.facts_under("alpha") == []
    assert registry.workers() == []


def test_facts_written_longest_ago_go_first(registry: Registry) -> None:
    registry.put_facts("0", {"first": True})
    stored = json.loads(registry.path.read_text())
    stored["facts"] = {str(number): {"n": number} for number in range(MAX_FACTS)}
    registry.path.write_text(json.dumps(stored))
    registry.put_facts("0", {"again": True})
    assert registry.facts("1") == {"n": 1}
    registry.put_facts("more", {})
    assert registry.facts("1") is None
    assert registry.facts("0") == {"again": True}
    assert registry.facts("more") == {}


def test_facts_that_are_not_json_change_nothing(registry: Registry) -> None:
    registry.put_facts("key", {"n": 1})
    before = registry.path.read_bytes()
    with pytest.raises(TypeError):
        registry.put_facts("key", {"n": object()})
    assert registry.path.read_bytes() == before
    assert os.listdir(registry.path.parent).count(".registry.json.tmp") == 0


def test_everything_is_private_whatever_the_umask(registry: Registry) -> None:
    old = os.umask(0)
    try:
        registry.put(ENTRY)
        registry.client_id()
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in registry.path.parent.iterdir()}
    assert modes == {"registry.json": 0o600, "registry.lock": 0o600, "client-id": 0o600}
    assert stat.S_IMODE(registry.path.parent.stat().st_mode) == 0o700


def test_a_wide_open_directory_of_ours_is_closed(registry: Registry) -> None:
    registry.path.parent.mkdir(mode=0o755)
    registry.workers()
    assert stat.S_IMODE(registry.path.parent.stat().st_mode) == 0o700


def test_a_directory_that_is_not_ours_by_name_keeps_its_mode(tmp_path: Path, reporter: Listener) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    Registry(shared / "registry.json", reporter=reporter).put(ENTRY)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_reading_writes_no_registry(registry: Registry) -> None:
    assert registry.workers() == []
    assert registry.facts("key") is None
    assert not registry.path.exists()


def test_putting_the_same_again_does_not_rewrite_the_file(registry: Registry) -> None:
    registry.put(ENTRY)
    before = registry.path.stat()
    registry.put(ENTRY)
    assert registry.path.stat().st_ino == before.st_ino
    registry.put(replace(ENTRY, state="busy"))
    assert registry.path.stat().st_ino != before.st_ino


DAMAGED = {
    "torn": b'{"meta":{"schema":{"version":1}},"workers":{"w1":{"id',
    "empty": b"",
    "foreign JSON": b'{"name": "package", "version": "1.0"}',
    "a list": b"[1, 2, 3]",
    "TinyDB of somebody else": b'{"_default": {"1": {"a": 1}}}',
    "newer schema": b'{"meta":{"schema":{"version":2}},"workers":{}}',
    "no schema": b'{"workers":{}}',
    "schema true": b'{"meta":{"schema":{"version":true}}}',
    "schema in words": b'{"meta":{"schema":"1"}}',
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("first", ["read", "write"])
def test_a_damaged_file_is_set_aside_and_rebuilt(
    registry: Registry, reporter: Listener, content: bytes, first: str
) -> None:
    registry.path.parent.mkdir()
    registry.path.write_bytes(content)
    registry.path.chmod(0o644)
    if first == "read":
        assert registry.workers() == []
    registry.put(ENTRY)
    assert registry.workers() == [ENTRY]
    (aside,) = registry.path.parent.glob("registry.corrupt-*.json")
    assert aside.read_bytes() == content
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    (warning,) = reporter.warnings
    assert str(aside) in warning


def test_files_set_aside_in_one_second_get_names_of_their_own(registry: Registry, reporter: Listener) -> None:
    registry.path.parent.mkdir()
    for number in range(3):
        registry.path.write_text(f"torn {number}")
        registry.put(ENTRY)
    asides = list(registry.path.parent.glob("registry.corrupt-*.json"))
    assert sorted(aside.read_text() for aside in asides) == ["torn 0", "torn 1", "torn 2"]
    assert len(reporter.warnings) == 3


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "directory"])
def test_what_is_no_file_is_set_aside(registry: Registry, reporter: Listener, make: Any) -> None:
    registry.path.parent.mkdir()
    make(registry.path)
    assert registry.workers() == []
    registry.put(ENTRY)
    assert registry.workers() == [ENTRY]
    assert len(reporter.warnings) == 1


MISFITS: dict[str, dict[str, Any]] = {
    "unknown field": {"colour": "red"},
    "pid in words": {"pid": "4711"},
    "pid true": {"pid": True},
    "requests a string": {"requests": "r1"},
    "requests of numbers": {"requests": [1]},
    "no number": {"created": float("nan")},
    "node null": {"node": None},
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS.keys())
def test_an_entry_of_another_shape_is_dropped_and_the_others_stay(
    registry: Registry, reporter: Listener, change: dict[str, Any]
) -> None:
    registry.put(ENTRY)
    registry.put(replace(ENTRY, id="w2"))
    stored = json.loads(registry.path.read_text())
    stored["workers"]["alpha w1"].update(change)
    stored["later"] = {"table": {"of": "a newer version"}}
    registry.path.write_text(json.dumps(stored))
    assert [entry.id for entry in registry.workers()] == ["w2"]
    registry.put(ENTRY)
    assert {entry.id for entry in registry.workers()} == {"w1", "w2"}
    assert json.loads(registry.path.read_text())["later"] == {"table": {"of": "a newer version"}}
    assert reporter.warnings == []


def test_a_missing_field_drops_the_entry() -> None:
    document = encode(ENTRY)
    del document["lease"]
    assert decode(document) is None


def test_the_leftover_of_a_killed_writer_is_removed_by_the_next(registry: Registry) -> None:
    registry.put(ENTRY)
    leftover = registry.path.with_name(".registry.json.tmp")
    leftover.write_text('{"half')
    assert registry.workers() == [ENTRY]
    registry.put(replace(ENTRY, state="busy"))
    assert not leftover.exists()


def test_the_api_key_is_kept_and_never_shown(registry: Registry) -> None:
    registry.put(ENTRY)
    (found,) = registry.with_id("w1")
    assert found.api_key == "very-secret"
    assert "very-secret" not in repr(found)


def test_the_client_id_is_one_and_outlives_the_registry(registry: Registry, reporter: Listener) -> None:
    made = registry.client_id()
    assert len(made) == 16
    int(made, 16)
    assert registry.client_id() == made
    registry.put(ENTRY)
    registry.path.unlink()
    assert again(registry, reporter).client_id() == made


def test_two_machines_have_two_client_ids(tmp_path: Path, reporter: Listener) -> None:
    ids = {Registry(tmp_path / name / "registry.json", reporter=reporter).client_id() for name in "ab"}
    assert len(ids) == 2


def test_a_damaged_client_id_is_made_anew_and_kept(registry: Registry, reporter: Listener) -> None:
    registry.path.parent.mkdir()
    registry.path.with_name("client-id").write_bytes(b"\xff not an id")
    assert registry.client_id() == again(registry, reporter).client_id()


def test_what_cannot_be_remembered_is_one_warning(tmp_path: Path, reporter: Listener) -> None:
    (tmp_path / "file").write_text("in the directory's place")
    registry = Registry(tmp_path / "file" / "registry.json", reporter=reporter)
    registry.put(ENTRY)
    assert registry.workers() == []
    assert registry.facts("key") is None
    assert registry.client_id() == registry.client_id()
    (warning,) = reporter.warnings
    assert f"{tmp_path / 'file'} (File exists)" in warning


def test_the_state_directory_may_be_deleted_at_any_time(registry: Registry, reporter: Listener) -> None:
    registry.put(ENTRY)
    for path in registry.path.parent.iterdir():
        path.unlink()
    registry.path.parent.rmdir()
    assert registry.workers() == []
    registry.put(ENTRY)
    assert registry.workers() == [ENTRY]
    assert reporter.warnings == []


def test_threads_of_one_process_do_not_lose_updates(registry: Registry) -> None:
    def work(name: int) -> None:
        for number in range(10):
            registry.put(replace(ENTRY, id=f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.workers()) == 40


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/h"}, "/h/.local/state/rbee/registry.json"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/rbee/registry.json"),
        ({"HOME": "/h", "XDG_STATE_HOME": ""}, "/h/.local/state/rbee/registry.json"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/rbee/registry.json"),
    ],
)
def test_default_path(environ: dict[str, str], path: str) -> None:
    assert default_path(environ) == Path(path)


def test_a_signature_is_read_as_it_was_written() -> None:
    assert parse_holder("12 box rbee infer\n") == LockHolder(12, "box", "rbee infer")
    for text in ("", "box rbee", "x box rbee", "٣ box rbee", "-1 box rbee"):
        assert parse_holder(text) is None


def test_the_refusal_names_the_holder_and_how_to_look_at_it() -> None:
    path = Path("/s/registry.lock")
    here = refusal(path, LockHolder(12, "box", "rbee infer"), "box", 10.0)
    assert "process 12 (rbee infer)" in here.message
    assert (here.hint or "").endswith("ps -o pid,etime,args -p 12")
    there = refusal(path, LockHolder(12, "far", "rbee infer"), "box", 10.0)
    assert "on far" in there.message
    assert (there.hint or "").startswith("on far: ")
    nobody = refusal(path, None, "box", 10.0)
    assert "another command" in nobody.message
    assert nobody.details["pid"] is None


JSON: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_a_registry_or_foreign(text: str) -> None:
    try:
        tables = parse(text)
    except Foreign:
        return
    assert tables["meta"]["schema"]["version"] == 1


@given(st.sampled_from(list(encode(ENTRY))), JSON)
def test_any_value_in_a_field_is_an_entry_or_none(name: str, value: Any) -> None:
    document = encode(ENTRY) | {name: value}
    found = decode(document)
    if found is not None:
        assert encode(found) == document
        hash(found)


SOME_ENTRIES = st.lists(
    st.builds(
        lambda known, node, requests: replace(ENTRY, id=known, node=node, requests=tuple(requests)),
        st.sampled_from("abc"),
        st.sampled_from(["alpha", "beta"]),
        st.lists(st.sampled_from("rstu"), unique=True, max_size=3),
    ),
    max_size=5,
)


@given(SOME_ENTRIES, SOME_ENTRIES)
def test_sync_keeps_other_nodes_and_exactly_what_was_told(
    put: list[WorkerEntry], told: list[WorkerEntry]
) -> None:
    stored: entries.Workers = {}
    for one in put:
        stored = entries.put(stored, one)
    after = entries.synced(stored, "alpha", told)
    named = {("alpha", one.id) for one in told}
    assert {key for key in after if key[0] == "alpha"} == named
    assert {key: one for key, one in after.items() if key[0] == "beta"} == {
        key: one for key, one in stored.items() if key[0] == "beta"
    }
    for key in named:
        before = stored[key].requests if key in stored else ()
        mine = {request for one in told if one.id == key[1] for request in one.requests}
        assert set(before) <= set(after[key].requests) <= {*before, *mine}


def test_an_older_version_reads_what_this_one_wrote(
    registry: Registry,
) -> None:
    registry.put(replace(ENTRY, private=True))
    assert registry.workers() == [replace(ENTRY, private=True)]
    written = json.loads(registry.path.read_text())
    (document,) = written["workers"].values()
    assert document.keys() == {  # the fields of version 0.1.0, which reads no entry that has others
        *("id", "node", "owner", "match", "requests", "model", "engine", "socket", "port", "api_key", "pid"),
        *("started", "boot_id", "directory", "state", "lease", "alias", "context", "parallel", "created"),
    }
    registry.put(replace(ENTRY, node="beta"))
    assert {entry.node: entry.private for entry in registry.workers()} == {ENTRY.node: True, "beta": False}


def registry_calls() -> Iterator[tuple[str, str]]:
    """Every call of a transaction outside of registry/: the file, and the function around it."""
    names = {name for name, _ in inspect.getmembers(Registry, inspect.isfunction)} - {"off_loop", "alone"}
    package = Path(rbee_ssh.__file__).parent

    def walk(node: ast.AST, file: str, function: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in names and "registry" in ast.unparse(called):
            yield file, function
        for child in ast.iter_child_nodes(node):
            yield from walk(child, file, function)

    for path in sorted(package.rglob("*.py")):
        if path.parent.name != "registry":
            yield from walk(ast.parse(path.read_text()), str(path.relative_to(package)), "")


def test_no_coroutine_waits_for_the_registry() -> None:
    """Where a transaction is called by itself, no event loop runs, or off_loop has taken it to its thread."""
    in_a_thread = {("models/known_sums.py", name) for name in ("belongings", "sums_by_place", "_summed")}
    in_a_thread.add(("workers/infer.py", "_entries"))
    assert set(registry_calls()) == {("cli/nodes/remove.py", "remove"), *in_a_thread}
    for file in Path(rbee_ssh.__file__).parent.rglob("*.py"):
        for called in ("belongings", "sums_by_place"):
            assert not re.search(rf"(?<!def )\b{called}\(", file.read_text()), (file, called)
