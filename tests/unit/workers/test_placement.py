"""Which node serves a request that names none."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import RamShort
from rbee_ssh.workers.placement import MIB, Candidate, choose

GIB = 1024 * MIB


def node(name: str, free: int | None, **also: bool | int) -> Candidate:
    said: dict[str, object] = {"ready": False, "live": False, "has_model": False, **also}
    return Candidate(node=name, free_bytes=free, **said)  # type: ignore[arg-type]


def test_a_ready_worker_wins_over_more_memory() -> None:
    assert choose([node("big", 64 * GIB), node("warm", GIB, ready=True, live=True)], GIB) == "warm"


def test_a_loading_worker_is_waited_for() -> None:
    assert choose([node("big", 64 * GIB), node("loading", GIB, live=True)], GIB) == "loading"


def test_else_the_most_free_memory() -> None:
    assert choose([node("a", 8 * GIB), node("b", 16 * GIB), node("c", 12 * GIB)], 4 * GIB) == "b"


def test_a_node_that_has_the_file_comes_before_one_that_must_be_sent_it() -> None:
    assert choose([node("a", 8 * GIB, has_model=True), node("b", 16 * GIB)], 4 * GIB) == "a"


def test_what_is_still_loading_is_not_free() -> None:
    assert choose([node("a", 16 * GIB, claimed_bytes=10 * GIB), node("b", 8 * GIB)], 4 * GIB) == "b"


def test_a_node_that_cannot_say_is_believed() -> None:
    assert choose([node("a", None)], 4 * GIB) == "a"


def test_fitting_nowhere_names_the_numbers() -> None:
    with pytest.raises(
        RamShort, match=r"4761 MiB and fits on no node; free: a 1024 MiB, b 2048 MiB"
    ) as caught:
        choose([node("a", GIB), node("b", 2 * GIB)], 4 * GIB)
    assert caught.value.details["need_bytes"] > 4 * GIB
