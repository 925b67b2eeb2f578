"""Running programs: one way, with the program's own words in the failure."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    input: str | None = None,
    timeout: float = 30.0,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end and return what was said. stdin is empty unless `input` is given.

    Raises:
        AssertionError: `check` and the exit status is not 0; the text holds the command and its output.
        subprocess.TimeoutExpired: it was killed after `timeout` seconds.
    """
    done = subprocess.run(
        argv,
        input="" if input is None else input,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        env=env,
        cwd=cwd,
        check=False,
    )
    if check and done.returncode != 0:
        words = shlex.join(os.fspath(word) for word in argv)
        raise AssertionError(f"status {done.returncode} from: {words}\n{done.stdout}{done.stderr}")
    return done


def wait_until(what: str, ready: Callable[[], bool], *, timeout: float = 10.0, every: float = 0.01) -> None:
    """Ask `ready` until it says yes.

    Raises:
        AssertionError: it did not within `timeout` seconds; `what` is named.
    """
    end = time.monotonic() + timeout
    late = False
    while not ready():
        if late:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(every)
        late = time.monotonic() > end  # and one look more: the machine may have stood still
