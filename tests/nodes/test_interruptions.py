"""The network fails, a time runs out, a key is stale: in the middle of an answer, or at its start."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from nodes.serving import (
    GREEDY,
    PROMPT,
    endless,
    engines_on,
    equip,
    events,
    eventually,
    kill,
    model,
    text_of,
    workers,
)

from nodekit import Control, LabNode
from nodekit.engines import Engines

# The story goes on for longer than any --timeout here.
ROOM = ("--context", "8192")


@contextmanager
def streaming(control: Control, engines: Engines, *args: str) -> Iterator[subprocess.Popen[str]]:
    """An answer in the middle; what follows is read from its stdout."""
    words = ["--json", "infer", *ROOM, *args, *endless(engines)]
    process = control.rbee_popen(*words)
    try:
        assert process.stdout is not None
        for _ in range(5):
            assert "event" in json.loads(process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.wait()


def end_of(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()], err


def quiet(node: LabNode) -> bool:
    """Whether no engine computes."""

    def ticks() -> str:
        return node.exec_local(
            "cat " + " ".join(f"/proc/{pid}/stat" for pid in engines_on(node)) + " | cut -d' ' -f14,15"
        ).stdout

    before = ticks()
    time.sleep(0.5)
    return ticks() == before


@pytest.mark.parametrize("how", ["reset", "silence", "sshd"])
def test_a_connection_lost_in_the_middle(node: LabNode, control: Control, engines: Engines, how: str) -> None:
    equip(control, engines, node, text=f"[timeouts]\nkeepalive = {1 if how == 'silence' else 10}\n")
    with streaming(control, engines) as process:
        began = time.monotonic()
        {"reset": node.reset_connections, "silence": node.cut, "sshd": node.kill_sshd}[how]()
        said, err = end_of(process)
        took = time.monotonic() - began
    assert process.returncode == 1
    assert said[-1]["error"]["code"] == "CONNECTION_LOST", said[-1]
    assert "Traceback" not in err
    assert took < 15, "a reset is seen at once; silence after three times the keepalive"
    {"reset": lambda: None, "silence": node.mend, "sshd": node.start_sshd}[how]()
    again = control.rbee("--json", "infer", *model(engines), *ROOM, *GREEDY, "--max-tokens", "2", PROMPT)
    assert events(again)[0]["reused"] is True, again.stdout + again.stderr
    assert len(engines_on(node)) == 1


def test_a_node_that_reboots_in_the_middle(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    with streaming(control, engines) as process:
        node.reboot()
        said, err = end_of(process)
    assert (process.returncode, said[-1]["error"]["code"]) == (1, "CONNECTION_LOST"), err
    (dead,) = workers(control)
    assert dead["state"] == "dead"
    again = control.rbee("--json", "infer", *model(engines), *ROOM, *GREEDY, "--max-tokens", "2", PROMPT)
    assert events(again)[0]["worker"] != dead["id"], again.stdout + again.stderr


@pytest.mark.parametrize("remove", [False, True], ids=["", "--rm"])
def test_a_time_that_runs_out_in_the_middle(
    node: LabNode, control: Control, engines: Engines, remove: bool
) -> None:
    equip(control, engines, node)
    if not remove:
        control.rbee("workers", "start", *model(engines), *ROOM, check=True)
    with streaming(control, engines, "--timeout", "15s", *(["--rm"] if remove else [])) as process:
        said, _ = end_of(process)
    assert said[-1]["error"]["code"] == "WORKER_STALLED"
    assert "15" in said[-1]["error"]["message"]
    if remove:
        assert engines_on(node) == []
        assert workers(control) == []
    else:
        eventually(lambda: quiet(node), within=5, why="nobody generates for nobody")


def test_a_key_that_is_stale_is_read_again(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    words = ["--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", PROMPT]
    first = control.rbee(*words)
    registry = control.home / ".local/state/rbee/registry.json"
    known = json.loads(registry.read_text())
    (entry,) = known["workers"].values()
    entry["api_key"] = "0" * 48
    registry.write_text(json.dumps(known))
    second = control.rbee(*words)
    assert text_of(second) == text_of(first), second.stdout
    assert [event["event"] for event in events(second)].count("start") == 1
    (entry,) = json.loads(registry.read_text())["workers"].values()
    assert entry["api_key"] != "0" * 48


@pytest.mark.parametrize("state", ["off", "silent"])
def test_a_node_that_is_gone_keeps_nobody_from_the_others(
    make_node: Callable[..., LabNode], control: Control, engines: Engines, state: str
) -> None:
    gone, there = make_node(), make_node()
    equip(control, engines, gone, there, text="[timeouts]\nconnect = 4\n")
    words = ["--json", "infer", *model(engines), *GREEDY, "--max-tokens", "2", PROMPT]
    first = control.rbee(*words, "--node", gone.name)
    assert first.returncode == 0, first.stdout
    gone.power_off() if state == "off" else gone.cut()
    began = time.monotonic()
    answer = control.rbee(*words)
    assert events(answer)[0].get("node") == there.name, answer.stdout + answer.stderr
    assert time.monotonic() - began < 25
    began = time.monotonic()
    again = control.rbee(*words)
    assert (events(again)[0]["node"], events(again)[0]["reused"]) == (there.name, True)
    assert time.monotonic() - began < 15
    if state == "off":
        gone.power_on()


def test_an_engine_that_stops_in_the_middle_of_its_words(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, text="[timeouts]\nbetween_tokens = 1\n")
    with streaming(control, engines) as process:
        kill(node, *engines_on(node), signal="STOP")
        said, _ = end_of(process)
    assert said[-1]["error"]["code"] == "WORKER_STALLED"
    assert "1 s" in said[-1]["error"]["message"]
    kill(node, *engines_on(node), signal="CONT")
    eventually(lambda: quiet(node), within=5, why="the request was cancelled")
