"""Blocking calls beside the loop."""

from __future__ import annotations

import asyncio

import pytest

from rbee_ssh.concurrency import in_daemon_thread


def test_it_returns_and_raises() -> None:
    assert asyncio.run(in_daemon_thread(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_daemon_thread(lambda: 1 // 0))
