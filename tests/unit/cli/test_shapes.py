"""The JSON of the interface, key by key."""

from __future__ import annotations

import json

from rbee_ssh.cli import shapes
from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.fleet.status import NodeStatus
from rbee_ssh.inventory import Node
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.workers.types import Done, Started, Thinking, Token, Worker

WORKER = Worker(
    id="tiny-3f9a",
    node="gpu1",
    model="file:///models/tiny.gguf",
    engine="llama-server",
    state="idle",
    endpoint="unix:/run/x/sock",
    pid=42,
    started_at=1_700_000_000.5,
    idle_seconds=5,
    lease_seconds=3600,
    log="/x/log",
    owner="secret-owner",
    match="hash",
    context=4096,
    parallel=2,
    memory=123,
    device_memory=456,
)
AS_JSON = {
    "id": "tiny-3f9a",
    "node": "gpu1",
    "model": "file:///models/tiny.gguf",
    "engine": "llama-server",
    "state": "idle",
    "endpoint": "unix:/run/x/sock",
    "pid": 42,
    "started_at": 1_700_000_000.5,
    "idle_seconds": 5,
    "lease_seconds": 3600,
    "context": 4096,
    "parallel": 2,
    "memory_bytes": 123,
    "device_memory_bytes": 456,
    "log": "/x/log",
}
DOWN = {"gpu2": NodeUnreachable("no", hint="h", details={"tries": 3})}
DOWN_AS_JSON = [
    {
        "node": "gpu2",
        "error": {"code": "NODE_UNREACHABLE", "message": "no", "hint": "h", "details": {"tries": 3}},
    }
]


def test_the_events_of_an_answer() -> None:
    assert shapes.event(Started("gpu1", "w1", "tiny", "llama-server", True)) == {
        "event": "start",
        "node": "gpu1",
        "worker": "w1",
        "model": "tiny",
        "engine": "llama-server",
        "reused": True,
    }
    assert shapes.event(Token("Hi", 0)) == {"event": "token", "text": "Hi", "index": 0}
    assert shapes.event(Thinking("hm", 3)) == {"event": "thinking", "text": "hm", "index": 3}
    assert shapes.event(Done("stop", 20, None, 1.23456, 16.20039, 120.12345)) == {
        "event": "done",
        "finish_reason": "stop",
        "tokens": 20,
        "prompt_tokens": None,
        "seconds": 1.2346,
        "tokens_per_second": 16.2,
        "time_to_first_token_ms": 120.12,
    }


def test_workers() -> None:
    assert shapes.workers([WORKER]) == {"workers": [AS_JSON]}
    assert shapes.started(WORKER, False) == {"worker": AS_JSON, "reused": False}


def test_a_cleanup_and_a_stop() -> None:
    assert shapes.cleaned(("a",), (("b", "busy"),), ("c",), DOWN) == {
        "stopped": ["a"],
        "kept": [{"id": "b", "why": "busy"}],
        "pruned": ["c"],
        "unreachable": DOWN_AS_JSON,
    }
    assert shapes.stopped(("a",), (), DOWN) == {"stopped": ["a"], "forced": [], "unreachable": DOWN_AS_JSON}


def test_a_node_of_the_inventory() -> None:
    shown = shapes.listed_node(Node("gpu1", "10.0.0.1", jump=("gate",), tags=("gpu",)))
    assert shown["jump"] == ["gate"] and shown["tags"] == ["gpu"] and shown["port"] is None
    json.dumps(shown)


def test_a_node_that_is_up() -> None:
    facts = Facts(
        os="Linux",
        arch="x86_64",
        cpus=16,
        load=0.5,
        ram_total_bytes=64,
        ram_free_bytes=32,
        disk_free_bytes=None,
        gpus=(Gpu(0, "RTX 4090", "nvidia", "cuda", 24, 20, "570.1"),),
        engines=(
            EngineFound("llama-server", "/usr/bin/llama-server", "b1", None, ("cpu", "cuda"), ("CUDA0",)),
        ),
    )
    assert shapes.node_status(NodeStatus("gpu1", "up", 12.34, facts, (WORKER,))) == {
        "name": "gpu1",
        "state": "up",
        "latency_ms": 12.3,
        "os": "Linux",
        "arch": "x86_64",
        "cpus": 16,
        "load": 0.5,
        "ram_total_bytes": 64,
        "ram_free_bytes": 32,
        "disk_free_bytes": None,
        "gpus": [
            {
                "index": 0,
                "name": "RTX 4090",
                "vendor": "nvidia",
                "backend": "cuda",
                "memory_total_bytes": 24,
                "memory_free_bytes": 20,
                "driver": "570.1",
            }
        ],
        "engines": [
            {
                "name": "llama-server",
                "version": "b1",
                "path": "/usr/bin/llama-server",
                "backends": ["cpu", "cuda"],
                "devices": ["CUDA0"],
                "problem": None,
            }
        ],
        "workers": [AS_JSON],
        "error": None,
    }


def test_a_node_that_is_down_has_the_same_keys() -> None:
    shown = shapes.node_status(NodeStatus("gpu2", "down", error=DOWN["gpu2"]))
    assert shown.keys() == shapes.node_status(NodeStatus("gpu1", "up", 1.0, Facts())).keys()
    assert shown["error"] == DOWN_AS_JSON[0]["error"]
    assert shown["state"] == "down"
    assert (shown["os"], shown["gpus"], shown["workers"]) == (None, [], [])
