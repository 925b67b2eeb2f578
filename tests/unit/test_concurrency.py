"""Blocking calls beside the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from rbee_ssh.concurrency import in_daemon_thread


def test_it_returns_and_raises() -> None:
    async def run(work: Callable[[], int]) -> int:
        return await in_daemon_thread(work)

    assert asyncio.run(run(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run(lambda: 1 // 0))
    with pytest.raises(SystemExit):
        asyncio.run(run(lambda: sys.exit(3)))
