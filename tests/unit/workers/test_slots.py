"""When a worker has no slot for one more request."""

from __future__ import annotations

import asyncio
import json

import pytest
from unit.ssh.stubborn import Stubborn, goes_on

from rbee_ssh.reporter import SilentReporter
from rbee_ssh.workers import ask, slots
from rbee_ssh.workers.records import Record


def worker(state: str, connections: str | None, parallel: object = 1) -> Record:
    values = {"state": state, "spec.json": json.dumps({"parallel": parallel})}
    return Record("0123456789ab", values if connections is None else values | {"connections": connections})


@pytest.mark.parametrize(
    ("state", "connections", "parallel", "own", "full"),
    [
        ("idle", None, 1, 0, False),
        ("busy", "1", 1, 0, True),
        ("busy", "1", 1, 1, False),
        ("busy", "2", 1, 1, True),
        ("busy", "3", 4, 0, False),
        ("busy", "4", 4, 0, True),
        ("loading", "9", 1, 0, False),
        ("busy", "rubbish", 1, 0, True),
        ("busy", "1", "rubbish", 0, True),
        ("busy", "1", True, 0, True),
        ("busy", "1", -3, 0, True),
    ],
)
def test_full(state: str, connections: str | None, parallel: object, own: int, full: bool) -> None:
    assert slots.full(worker(state, connections, parallel), own) is full


def test_who_does_not_wait_is_told_where_else() -> None:
    error = slots.busy(worker("busy", "4", 4), "gpu1", ("gpu2", "lab"))
    assert error.code == "WORKER_BUSY"
    assert "all 4 slots" in error.message
    assert error.hint == "rbee infer --node gpu2 …"
    assert error.details["others"] == ["gpu2", "lab"]
    assert "--no-wait" in str(slots.busy(worker("busy", "1"), "gpu1", ()).hint)


def test_who_is_cancelled_while_the_notice_ends_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        stubborn = Stubborn()
        monkeypatch.setattr(ask, "_say_queued", stubborn)

        async def waiter() -> None:
            async with ask.queue_notice(None, SilentReporter()):  # type: ignore[arg-type]  # for the notice only
                await stubborn.begun.wait()

        assert not await goes_on(stubborn, waiter())

    asyncio.run(body())
