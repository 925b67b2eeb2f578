"""Blocking calls beside the loop."""

from __future__ import annotations

import asyncio
import subprocess
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


def test_nobody_waits_for_what_is_not_wanted_any_more() -> None:
    program = (
        "import asyncio, time\n"
        "from rbee_ssh.concurrency import in_daemon_thread\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.wait_for(in_daemon_thread(lambda: time.sleep(600)), 0.1)\n"
        "    except TimeoutError:\n"
        "        print('left')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("left\n", "", 0)
