"""Which node serves a request that names none."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import RamShort
from rbee_ssh.workers.placement import MIB, Candidate, choose

GIB = 1024 * MIB


def node(name: str, have: int | None, need: int | None = 4 * GIB, **also: bool | int) -> Candidate:
    said: dict[str, object] = {"ready": False, "live": False, "has_model": False, **also}
    return Candidate(node=name, need_bytes=need, have_bytes=have, **said)  # type: ignore[arg-type]


def test_a_ready_worker_wins_over_more_memory() -> None:
    assert choose([node("big", 64 * GIB), node("warm", GIB, ready=True, live=True)]) == "warm"


def test_a_loading_worker_is_waited_for() -> None:
    assert choose([node("big", 64 * GIB), node("loading", GIB, live=True)]) == "loading"


def test_else_the_most_free_memory() -> None:
    assert choose([node("a", 8 * GIB), node("b", 16 * GIB), node("c", 12 * GIB)]) == "b"


def test_a_node_that_has_the_file_comes_before_one_that_must_be_sent_it() -> None:
    assert choose([node("a", 8 * GIB, has_model=True), node("b", 16 * GIB)]) == "a"


def test_what_fits_only_when_others_are_stopped_comes_last() -> None:
    full = node("full", GIB, has_model=True, evictable_bytes=64 * GIB)
    assert choose([full, node("b", 5 * GIB)]) == "b"
    assert choose([full, node("b", 3 * GIB)]) == "full"


def test_each_node_is_asked_for_what_its_own_engine_takes() -> None:
    assert choose([node("a", 8 * GIB, 9 * GIB), node("b", 4 * GIB, 3 * GIB)]) == "b"


def test_a_node_that_cannot_say_is_believed() -> None:
    assert choose([node("a", None)]) == "a"
    assert choose([node("a", GIB, None)]) == "a"


def test_fitting_nowhere_names_the_numbers() -> None:
    with pytest.raises(
        RamShort, match=r"4096 MiB and fits on no node; free, in MiB: a 1024, b 2048"
    ) as caught:
        choose([node("a", GIB), node("b", 2 * GIB)])
    assert caught.value.details["need_bytes"] == {"a": 4 * GIB, "b": 4 * GIB}
