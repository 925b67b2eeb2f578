"""What a node says of its workers is read as data, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.workers import records
from rbee_ssh.workers.types import STATES

LOOK = """root\t/home/me/.local/state/rbee/abc
sockets\t
boot-id\t11-22
worker\t0123456789ab
state\tidle
directory\t/home/me/.local/state/rbee/abc/workers/0123456789ab
match\tdeadbeef
spec.json\t{"node": "a", "model": "file:///m.gguf", "engine": "xllamacpp", "owner": "me", "created": 12.5}
pid\t77 1234
boot\t11-22
idle\t3
lease\t3600
key\t0123456789abcdef0123456789abcdef
socket\t/home/me/x/worker.sock
end\t0123456789ab
stopped\t0123456789ab
kept\tfeed\tidle for 10 s
""".splitlines()


def test_a_look_is_read() -> None:
    seen = records.parse(LOOK)
    assert (seen.root, seen.boot_id) == ("/home/me/.local/state/rbee/abc", "11-22")
    assert seen.results == (("stopped", "0123456789ab", ""), ("kept", "feed", "idle for 10 s"))
    worker = records.worker(seen.records[0], "a")
    assert (worker.state, worker.pid, worker.idle_seconds, worker.lease_seconds) == ("idle", 77, 15, 3600)
    assert worker.endpoint == "unix:/home/me/x/worker.sock"
    assert (worker.model, worker.engine, worker.owner, worker.started_at) == (
        "file:///m.gguf",
        "xllamacpp",
        "me",
        12.5,
    )


def test_the_registry_remembers_what_a_warm_request_needs() -> None:
    entry = records.entry(records.parse(LOOK).records[0], "a", ("fp",))
    assert (entry.socket, entry.port, entry.api_key, entry.requests) == (
        "/home/me/x/worker.sock",
        None,
        "0123456789abcdef0123456789abcdef",
        ("fp",),
    )
    assert (entry.pid, entry.started, entry.boot_id) == (77, "1234", "11-22")


def test_a_worker_is_asked_by_the_name_that_its_engine_has_for_the_model() -> None:
    """Which is not what the user calls it; workers of every version were started with the file's name."""
    spec = '{"model": "tiny", "model_path": "/m/a,b.gguf"}'
    assert records.entry(records.Record("ab", {"spec.json": spec}), "a").alias == "a_b.gguf"


def test_the_newest_word_on_a_worker_counts() -> None:
    twice = [*LOOK, *(line.replace("state\tidle", "state\tdead") for line in LOOK)]
    record = records.parse(twice).record("0123456789ab")
    assert record is not None
    assert record.state == "dead"


def test_an_id_that_could_be_a_path_is_no_worker() -> None:
    assert records.parse(["worker\t../../etc", "state\tidle", "end\t../../etc"]).records == ()


def test_a_failed_worker_keeps_its_last_lines() -> None:
    lines = ["worker\tab", "state\tfailed", "exit\t132", "log\tIllegal instruction", "end\tab"]
    worker = records.worker(records.parse(lines).records[0], "a")
    assert (worker.state, worker.exit_status, worker.problem) == ("failed", 132, "Illegal instruction")


@pytest.mark.parametrize(
    "key", ["", "short", "not hexadecimal at all", "0123456789abcdef\r\nHost: x", "a" * 999]
)
def test_a_key_that_is_none_of_ours_never_becomes_a_header(key: str) -> None:
    entry = records.entry(records.Record("ab", {"key": key}), "a")
    assert entry.api_key == ""


def test_a_key_is_not_shown_by_accident() -> None:
    seen = records.parse(LOOK)
    assert "0123456789abcdef0123456789abcdef" not in repr(seen)
    assert "0123456789abcdef0123456789abcdef" not in repr(records.entry(seen.records[0], "a"))


@pytest.mark.parametrize("port", ["0", "65536", "99999999999", "-1", "0x50"])
def test_a_port_that_is_none_is_no_port(port: str) -> None:
    record = records.Record("ab", {"port": port})
    assert records.entry(record, "a").port is None
    assert records.worker(record, "a").endpoint == ""


@pytest.mark.parametrize("created", ["1e999", "1" + "0" * 400, "NaN", "-1", "true", '"now"', "null"])
def test_a_time_that_is_none_is_no_time(created: str) -> None:
    record = records.Record("ab", {"spec.json": f'{{"created": {created}}}'})
    assert records.worker(record, "a").started_at is None
    assert records.entry(record, "a").created == 0.0


KEYS = [
    "worker",
    "state",
    "spec.json",
    "pid",
    "idle",
    "lease",
    "end",
    "log",
    "new",
    "stopped",
    "boot",
    "port",
]
LINES = st.builds(
    "\t".join, st.lists(st.sampled_from(KEYS) | st.text(max_size=12), min_size=1, max_size=4)
) | st.sampled_from(['spec.json\t{"created": "x", "context": []}', "spec.json\t[1]", "pid\t" + "9" * 60])


@given(st.lists(LINES, max_size=30))
def test_garbage_is_never_an_exception(lines: list[str]) -> None:
    seen = records.parse([*lines, "worker\tab", *lines, "end\tab"])
    for record in seen.records:
        worker = records.worker(record, "a")
        assert worker.state in STATES
        assert records.entry(record, "a").id == record.id
