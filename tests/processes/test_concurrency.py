"""A program ends though a thread of its own still works."""

from __future__ import annotations

import subprocess
import sys


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
