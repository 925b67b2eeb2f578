"""`rbee tunnel`: a local port for other programs, which outlives the worker behind it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.serving import GREEDY, PROMPT, engines_on, equip, events, eventually, model, text_of, workers

from nodekit import Control, LabNode
from nodekit.engines import Engines

BODY = {
    "messages": [{"role": "user", "content": PROMPT}],
    "temperature": 0,
    "seed": 1,
    "max_tokens": 8,
}


@dataclass(frozen=True)
class Tunnel:
    """One that runs: what it announced, and its process."""

    url: str
    header: Path
    process: subprocess.Popen[str]

    def ask(self, control: Control, **also: Any) -> subprocess.CompletedProcess[str]:
        """What a user's program would do, with curl."""
        return subprocess.run(
            [
                *("curl", "-sS", "-H", f"@{self.header}", "-H", "Content-Type: application/json"),
                *("-d", json.dumps(BODY | also), f"{self.url}/chat/completions"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=control.env,
        )


@contextlib.contextmanager
def tunnelled(control: Control, worker: str) -> Iterator[Tunnel]:
    process = control.rbee_popen("--json", "tunnel", worker, "--port", "0")
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    tunnel = Tunnel(said["base_url"], Path(said["header_file"]), process)
    try:
        yield tunnel
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_curl_through_the_tunnel_gets_the_same_answer(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    direct = control.rbee("--json", "infer", *model(engines), *GREEDY, "--max-tokens", "8", PROMPT)
    worker = events(direct)[0]["worker"]
    with tunnelled(control, worker) as tunnel:
        assert tunnel.header.stat().st_mode & 0o777 == 0o600
        answer = json.loads(tunnel.ask(control).stdout)
        assert answer["choices"][0]["message"]["content"] == text_of(direct)
        streamed = tunnel.ask(control, stream=True).stdout
        assert streamed.rstrip().endswith("data: [DONE]")
        without = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{tunnel.url}/models"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert without.stdout == "401"
    assert tunnel.process.returncode == 130
    assert not tunnel.header.exists()


def test_a_tunnel_outlives_its_worker(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    first = events(control.rbee("--json", "infer", *model(engines), "--max-tokens", "2", PROMPT))[0]
    with tunnelled(control, first["worker"]) as tunnel:
        assert json.loads(tunnel.ask(control).stdout)["choices"]
        control.rbee("workers", "stop", "--all", "--now", check=True)
        assert engines_on(node) == []
        assert json.loads(tunnel.ask(control).stdout)["choices"], "the next connection starts the next worker"
        (second,) = workers(control)
        assert second["id"] != first["worker"]
        assert second["model"] == first["model"]
        found = events(control.rbee("--json", "infer", *model(engines), "--max-tokens", "2", PROMPT))[0]
        assert found["worker"] == second["id"], "and it is the very worker that infer would use"


def test_a_worker_used_only_through_a_tunnel_is_not_idle(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    first = events(control.rbee("--json", "infer", *model(engines), "--max-tokens", "2", PROMPT))[0]
    with tunnelled(control, first["worker"]) as tunnel:
        end = time.monotonic() + 14
        while time.monotonic() < end:
            assert json.loads(tunnel.ask(control).stdout)["choices"]
            cleaned = json.loads(control.rbee("--json", "cleanup", "--idle", "6s").stdout)
            assert cleaned["stopped"] == []
            time.sleep(1)
        eventually(
            lambda: json.loads(control.rbee("--json", "cleanup", "--idle", "6s").stdout)["stopped"],
            within=30,
            why="idle once nobody asks any more: an open tunnel alone is no use",
        )


def test_the_next_worker_of_a_preset_has_its_arguments(
    node: LabNode, control: Control, engines: Engines
) -> None:
    preset = (
        f'[models.tiny]\nsource = "file://{engines.model}"\ncontext = 1024\nargs = ["--n-batch", "256"]\n'
    )
    equip(control, engines, node, text=preset)
    ask = ("--json", "infer", "--model", "tiny", "--max-tokens", "2", PROMPT)
    first = events(control.rbee(*ask))[0]
    with tunnelled(control, first["worker"]) as tunnel:
        control.rbee("workers", "stop", "--all", "--now", check=True)
        assert json.loads(tunnel.ask(control).stdout)["choices"]
        found = events(control.rbee(*ask))[0]
        assert found["reused"] is True
        assert len(workers(control)) == 1
