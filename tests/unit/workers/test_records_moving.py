"""Whether a worker did anything between two looks."""

from __future__ import annotations

import pytest

from rbee_ssh.workers.records import Record, moved


def record(cpu: int = 100, log: int = 5000, memory: str = "2048 1024 3072") -> Record:
    return Record("ab", {"state": "loading", "cpu": str(cpu), "log-size": str(log), "memory": memory})


@pytest.mark.parametrize(
    ("later", "share", "did"),
    [
        (record(), 0.0, False),
        (record(cpu=101), 0.0, True),  # a GPU does the work: one tick in a minute is all there is to see
        (record(cpu=104), 0.003, False),  # it answers that it is not ready
        (record(cpu=160), 0.003, True),
        (record(log=5001), 0.003, True),
        (record(memory="2048 1025 3073"), 0.003, False),  # a few pages of its heap
        (record(memory="2048 2048 4096"), 0.003, True),  # a mapped file comes in
        (record(memory="9048 1024 9999"), 0.003, True),
        (Record("ab", {"state": "loading"}), 0.003, True),  # no log any more
    ],
)
def test_what_counts_as_moving(later: Record, share: float, did: bool) -> None:
    assert moved(record(), later, seconds=60, share=share) is did


def test_a_node_that_tells_nothing_shows_no_move() -> None:
    nothing = Record("ab", {})
    assert moved(nothing, nothing, seconds=60, share=0.0) is False
