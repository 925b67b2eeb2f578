"""How patient `nodes status --watch` is."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import AuthFailed, ConnectionLost, HostKeyChanged, JumpFailed, NodeUnreachable, RbeeError
from rbee_ssh.fleet.status import NodeStatus
from rbee_ssh.fleet.watch import patience, silent
from rbee_ssh.node.facts import Facts


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (NodeUnreachable("x"), [2, 4, 8, 16, 30, 30]),
        (ConnectionLost("x"), [2, 4, 8, 16, 30, 30]),
        (JumpFailed("x", details={"cause": "NODE_UNREACHABLE"}), [2, 4, 8, 16, 30, 30]),
        (JumpFailed("x", details={"cause": "AUTH_FAILED"}), [30, 60, 120, 240, 300, 300]),
        (AuthFailed("x"), [30, 60, 120, 240, 300, 300]),
        (HostKeyChanged("x"), [30, 60, 120, 240, 300, 300]),
    ],
)
def test_who_is_down_is_tried_less_and_less_often(error: RbeeError, waits: list[float]) -> None:
    assert [patience(error, failures) for failures in range(1, 7)] == waits
    assert patience(error, 10_000) == waits[-1]


def test_who_does_not_answer_any_more_is_down() -> None:
    up = NodeStatus("n", "up", 1.0, Facts())
    assert silent(up, 10.0, 10.0) is up
    down = silent(up, 12.3, 10.0)
    assert (down.state, down.facts, down.latency_ms) == ("down", None, None)
    assert down.error is not None
    assert down.error.details["attempts"] == ["no answer for 12 s"]
    asking = NodeStatus("n", "asking")
    assert silent(asking, 99.0, 10.0) is asking
