"""A minute of scripts/chaos, always with the same seed; the long runs are made by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodekit.engines import Engines

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_minute_of_chaos(engines: Engines) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for networks that can be cut: sudo scripts/test")
    assert engines.model.is_file()
    done = subprocess.run(
        [sys.executable, "-m", "storm", "--minutes", "1", "--seed", "1"],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
