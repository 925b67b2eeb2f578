"""`nodes status --watch` of a node whose engine is slow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rbee_ssh.fleet import watch
from rbee_ssh.fleet.watch import Watch
from rbee_ssh.inventory import Inventory, Node, Timeouts
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.pool import ConnectionPool


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
