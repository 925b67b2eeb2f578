"""`rbee workers` and `rbee tunnel`: how they show what the rooms below tell."""

from __future__ import annotations

import json
import shlex
from typing import Any

from rbee_ssh.cli.text import table, width
from rbee_ssh.cli.tunnel import curl_line
from rbee_ssh.cli.workers import COLUMNS, row
from rbee_ssh.workers.types import Worker


def worker(model: str, idle: int | None = 7, **more: Any) -> Worker:
    return Worker(
        id="smollm2-135m-4f3a",
        node="workstation",
        model=model,
        engine="llama-cpp-python",
        state="starting",
        endpoint="unix:/x",
        pid=None,
        started_at=None,
        idle_seconds=idle,
        lease_seconds=3600,
        log="/x/log",
        **more,
    )


def test_a_table_of_workers() -> None:
    one, two = worker("tiny", None, context=4096), worker("tiny", context=512, parallel=4, memory=2**29)
    assert table(COLUMNS, [row(one), row(two)]) == [
        "ID                 NODE         MODEL  ENGINE            STATE     CONTEXT     MEMORY  IDLE  LEASE",
        "smollm2-135m-4f3a  workstation  tiny   llama-cpp-python  starting     4096                   1h00m",
        "smollm2-135m-4f3a  workstation  tiny   llama-cpp-python  starting  4 × 512  512.0 MiB    7s  1h00m",
    ]
    on_gpu = worker("tiny", memory=2**29, device_memory=6 * 2**30)
    assert "512.0 MiB + 6.0 GiB GPU" in row(on_gpu)


def test_a_long_model_path_fits_80_columns_by_its_end_and_200_whole() -> None:
    model = "file:///srv/models/bartowski/SmolLM2-135M-Instruct-Q4_K_M.gguf"
    narrow = table(COLUMNS, [row(worker(model))], 80)
    assert max(map(width, narrow)) <= 80
    assert "Q4_K_M.gguf" in narrow[1] or ".gguf" in narrow[1]
    assert model in table(COLUMNS, [row(worker(model))], 200)[1]


def test_the_curl_line_is_one_command_without_a_secret() -> None:
    line = curl_line("http://127.0.0.1:8080/v1", "/home/o'hara/a b/header")
    words = shlex.split(line)
    assert words[0] == "curl"
    assert "@/home/o'hara/a b/header" in words
    assert words[-1] == "http://127.0.0.1:8080/v1/chat/completions"
    assert json.loads(words[words.index("-d") + 1])["stream"] is True
