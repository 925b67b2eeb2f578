"""`rbee` on a terminal of its own, and somebody who answers its questions."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Sequence

from nodekit import Control


def answered(
    control: Control, args: Sequence[str], answers: Sequence[tuple[str, str]], *, within: float = 60.0
) -> tuple[int, str]:
    """Run `rbee` on a terminal; its exit status, and all that stood on the screen.

    Args:
        answers: what to wait for on the screen, and what is typed then; in their order.
    """
    ours, theirs = pty.openpty()
    process = control.rbee_popen(*args, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen, at = "", 0
    ahead = list(answers)
    end = time.monotonic() + within
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: nobody has the other end open any more
                break
            screen += data.decode(errors="replace")
            while ahead and ahead[0][0] in screen[at:]:
                question, answer = ahead.pop(0)
                at = screen.index(question, at) + len(question)
                os.write(ours, answer.encode())
    finally:
        os.close(ours)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    assert not ahead, f"never asked: {ahead[0][0]!r}\n{screen}"
    return process.wait(), screen.replace("\r\n", "\n")
