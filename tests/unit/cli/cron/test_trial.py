"""What cron will miss of the nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.cron.trial import (
    CronVerdict,
    Down,
    LoginTrial,
    read_look,
    verdict,
)


def status(*nodes: tuple[str, str | None]) -> str:
    """What `nodes status --json` prints for these names and error codes."""
    shown: list[dict[str, Any]] = [
        {
            "name": name,
            "state": "down" if code else "up",
            "error": {"code": code, "message": f"{name} failed", "hint": None, "details": {}}
            if code
            else None,
        }
        for name, code in nodes
    ]
    return json.dumps({"nodes": shown})


def test_reads_what_nodes_status_prints() -> None:
    look = read_look(status(("a", None), ("b", "AUTH_FAILED")), "")
    assert look == LoginTrial(frozenset({"a"}), (Down("b", "AUTH_FAILED", "b failed"),))


def test_an_error_instead_of_nodes_is_the_problem() -> None:
    error: dict[str, Any] = {
        "error": {"code": "INVENTORY_NOT_FOUND", "message": "no /x", "hint": None, "details": {}}
    }
    assert read_look(json.dumps(error), "").problem == "INVENTORY_NOT_FOUND: no /x"


@pytest.mark.parametrize(
    ("stdout", "stderr", "shown"),
    [
        ("", "Traceback:\nModuleNotFoundError: no rbee\n", '"ModuleNotFoundError: no rbee"'),
        ("", "", '"no output"'),
        ("<html>", "", '"<html>"'),
        ('{"nodes": 3}', "", '"{\\"nodes\\": 3}"'),
        ('{"nodes": [{"name": "a"}]}', "", "nodes"),
        ("[]", "", '"[]"'),
        ('"error"', "", "error"),
    ],
)
def test_other_output_is_shown(stdout: str, stderr: str, shown: str) -> None:
    look = read_look(stdout, stderr)
    assert shown in (look.problem or "")
    assert not look.up


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["nodes", "error", "name", "state", "code", "message", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(st.text() | JSON.map(json.dumps), st.text())
def test_any_output_is_a_look(stdout: str, stderr: str) -> None:
    look = read_look(stdout, stderr)
    assert look.problem is None or not look.up


def test_what_only_an_agent_opens_is_told_from_what_is_lost_and_what_is_down() -> None:
    here = read_look(status(("a", None), ("b", None), ("c", None), ("d", "NODE_UNREACHABLE")), "")
    cron = read_look(
        status(("a", None), ("b", "AUTH_FAILED"), ("c", "JUMP_FAILED"), ("d", "NODE_UNREACHABLE")), ""
    )
    found = verdict(here, cron)
    assert [node.name for node in found.agent_only] == ["b"]
    assert [node.name for node in found.lost] == ["c"]
    assert [node.name for node in found.down] == ["d"]
    agent, lost, down = found.warnings()
    assert "node b: only an SSH agent" in agent
    assert "JUMP_FAILED" in lost
    assert "node d is down" in down


def test_a_node_that_no_key_opens_here_either_is_just_down() -> None:
    look = read_look(status(("a", "AUTH_FAILED")), "")
    found = verdict(look, look)
    assert not found.agent_only
    assert [node.code for node in found.down] == ["AUTH_FAILED"]


def test_nothing_to_tell_when_cron_reaches_everything() -> None:
    look = read_look(status(("a", None)), "")
    assert verdict(look, look) == CronVerdict()
    assert CronVerdict().warnings() == []
    # Up under cron though down here a moment ago: no loss.
    assert verdict(read_look(status(("a", "NODE_UNREACHABLE")), ""), look) == CronVerdict()


def test_a_problem_is_the_whole_verdict() -> None:
    look = read_look(status(("a", None)), "")
    assert verdict(look, LoginTrial(problem="gone")).warnings() == [
        "the nodes could not be tried in cron's environment: gone"
    ]
