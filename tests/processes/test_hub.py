"""What huggingface_hub reads once in a process: the endpoint of the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "endpoint", ["u:hunter2@127.0.0.1:9", "http://u:hunter2@h:x9", "http://u:hunter2@[zz"]
)
def test_an_endpoint_that_is_no_url(endpoint: str, tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads it once."""
    env = {"HOME": str(tmp_path), "HF_ENDPOINT": endpoint}
    rbee = [sys.executable, "-m", "rbee_ssh", "--json", "--verbose", "models", "show", "hf:org/open"]
    (tmp_path / "i.toml").write_text('[nodes.here]\nhost = "localhost"\n[timeouts]\ndownload_tries = 1\n')
    rbee[3:3] = ["--inventory", str(tmp_path / "i.toml")]
    done = subprocess.run(rbee, env=env, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["error"]["code"] == "DOWNLOAD_FAILED"
    assert "hunter2" not in done.stdout + done.stderr
