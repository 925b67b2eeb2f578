"""`rbee` inside the tests' own process: a tenth of the time, for what is asked a hundred times."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
from unittest.mock import patch

from nodes.measured import Measured

from nodekit import Control
from rbee_ssh.cli.main import run


def inside(control: Control, *words: str) -> Measured:
    """Run a command to its end, as `measured` does; time and memory are not looked at."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    told, reporter = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(bytes_, "utf-8", write_through=True) for bytes_ in (told, reporter))
    try:
        with (
            patch.dict(os.environ, control.env, clear=True),
            contextlib.chdir(control.work),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = run(words)
    finally:
        gc.unfreeze()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Measured(status, 0.0, 0, told.getvalue(), reporter.getvalue())
