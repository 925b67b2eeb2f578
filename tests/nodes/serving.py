"""What the tests of workers share: nodes with an engine, prompts with one answer, a look at the node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.running import wait_until

GREEDY = ("--temperature", "0", "--seed", "1")
PROMPT = "Name three colours."


def model(engines: Engines) -> tuple[str, str]:
    """The words that name the test model, which every node can read in place."""
    return "--model", f"file://{engines.model}"


def endless(engines: Engines) -> tuple[str, ...]:
    """The words of a story told until the context is full. Greedily: a sampled one can end at any moment."""
    return (*model(engines), *GREEDY, "--max-tokens", "100000", "Tell a very long story.")


def equip(
    control: Control,
    engines: Engines,
    *nodes: LabNode,
    engine: str = "xllamacpp",
    text: str = "",
    **keys: Any,
) -> Path:
    """An inventory of these nodes, each pointed at a real engine."""
    return control.inventory(*nodes, every=engines.inventory_keys(engine) | keys, text=text)


def events(answer: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The lines that `infer --json` printed."""
    return [json.loads(line) for line in answer.stdout.splitlines()]


def text_of(answer: subprocess.CompletedProcess[str]) -> str:
    return "".join(event["text"] for event in events(answer) if event.get("event") == "token")


def workers(control: Control, *args: str) -> list[dict[str, Any]]:
    """`rbee workers list --json`."""
    answer = control.rbee("--json", "workers", "list", *args)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return list(json.loads(answer.stdout)["workers"])


def engines_on(node: LabNode) -> list[int]:
    """Process ids of the engines that run on a node."""
    signs = ("serve.py", "llama-server", "llama_cpp.server")
    return [
        process.pid
        for process in node.processes()
        if any(sign in word for sign in signs for word in process.argv[:4])
    ]


def kill(node: LabNode, *pids: int, signal: str = "KILL") -> None:
    """Send a signal to processes of a node."""
    node.exec_local(f"kill -{signal} {' '.join(map(str, pids))}")


def eventually(holds: Callable[[], Any], *, within: float, why: str) -> None:
    """Wait until something holds."""
    wait_until(why, lambda: bool(holds()), timeout=within, every=0.1)
