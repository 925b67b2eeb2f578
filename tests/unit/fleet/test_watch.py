"""How patient `nodes status --watch` is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rbee_ssh.errors import AuthFailed, ConnectionLost, HostKeyChanged, JumpFailed, NodeUnreachable, RbeeError
from rbee_ssh.fleet import watch
from rbee_ssh.fleet.status import NodeStatus
from rbee_ssh.fleet.watch import Watch, patience, silent
from rbee_ssh.inventory import Inventory, Node, Timeouts
from rbee_ssh.node.facts import Facts
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.pool import ConnectionPool


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


def test_an_engine_that_takes_its_time_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.1)
    monkeypatch.setattr(watch, "ANEW", 0.0)  # engines are started again for each look
    monkeypatch.setenv("HOME", str(tmp_path))
    engine, slow, started = (tmp_path / name for name in ("llama-server", "slow", "started"))
    engine.write_text(f"#!/bin/sh\n: >{started}\nwhile [ -e {slow} ]; do sleep 0.05; done\necho version: 1\n")
    engine.chmod(0o755)
    connect = 0.05
    inventory = Inventory(
        {"localhost": Node("localhost", "localhost", engine_path=str(engine))},
        timeouts=Timeouts(connect=connect),
    )

    async def work() -> None:
        async with (
            asyncio.timeout(60),
            ConnectionPool(
                inventory, Registry(tmp_path / "r.json", reporter=SilentReporter()), SilentReporter()
            ) as pool,
            Watch(pool, ["localhost"]) as watching,
        ):
            await watching.settled(60)
            slow.touch()
            started.unlink()
            while not started.exists():
                await watching.news(0.01)
            await asyncio.sleep(connect * 2)
            seen = watching.seen()
            slow.unlink()
            assert [status.state for status in seen] == ["up"], seen

    asyncio.run(work())
