"""What a node is asked about a worker's memory, under every shell, in nvidia-smi's form."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes.shells import ID, SHELLS, Shell, identity, make, running

from rbee_ssh.workers.worker_memory import BODY, device_bytes


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    shell = make(request.param, tmp_path)
    shell.lib(":")
    return shell


def test_the_gpu_memory_of_a_workers_processes_is_told(shell: Shell, tmp_path: Path) -> None:
    with running("sleep", "600", start_new_session=True) as engine, running("sleep", "600") as other:
        shell.worker(pid=identity(engine.pid))
        program = tmp_path / "programs/nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{engine.pid}, 512'\necho '{other.pid}, 4096'\n")
        program.chmod(0o755)
        assert device_bytes(shell.run(BODY, ID, "cuda").split("\n")) == 512 * 2**20
        assert device_bytes(shell.run(BODY, ID, "cpu").split("\n")) == 0
