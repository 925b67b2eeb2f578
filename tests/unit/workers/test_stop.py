"""Which workers a stop means."""

from __future__ import annotations

import json

import pytest

from rbee_ssh.errors import WorkerUnknown
from rbee_ssh.workers.records import Record
from rbee_ssh.workers.stop import choose


def record(worker_id: str, owner: str = "me", state: str = "idle") -> Record:
    return Record(worker_id, {"state": state, "spec.json": json.dumps({"owner": owner})})


PRESENT = {
    "a": [record("aaa111"), record("aab222", owner="you"), record("ccc333", state="stopped")],
    "b": [record("bbb444", state="failed")],
}


def test_all_means_ones_own() -> None:
    assert choose(PRESENT, [], "me", complete=True) == {"a": ["aaa111"], "b": ["bbb444"]}


def test_any_owner_means_everybodys_but_what_is_stopped_already() -> None:
    assert choose(PRESENT, [], None, complete=True) == {"a": ["aaa111", "aab222"], "b": ["bbb444"]}


def test_an_id_means_that_worker_whoever_started_it() -> None:
    assert choose(PRESENT, ["aab222", "bbb444"], "me", complete=True) == {"a": ["aab222"], "b": ["bbb444"]}


def test_the_start_of_an_id_is_enough_when_it_is_one_workers() -> None:
    assert choose(PRESENT, ["b"], "me", complete=True) == {"b": ["bbb444"]}
    with pytest.raises(WorkerUnknown, match="several workers begin with aa"):
        choose(PRESENT, ["aa"], "me", complete=True)


def test_one_unknown_id_stops_nothing() -> None:
    with pytest.raises(WorkerUnknown, match="no worker ccc333") as caught:
        choose(PRESENT, ["aaa111", "ccc333"], "me", complete=True)
    assert caught.value.details["known"] == ["aaa111", "aab222", "bbb444"]


def test_an_id_may_be_on_a_node_that_did_not_answer() -> None:
    assert choose(PRESENT, ["fff"], "me", complete=False) == {}
