"""A worker that does not start: each way of not starting has its own words, and leaves nothing running."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from typing import Any

import pytest
from nodes.serving import PROMPT, engines_on, eventually, kill, model, workers

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import FOREIGN, fill

# A llama-server that can be asked its version; what it does when it shall serve follows.
FAKE = """#!/bin/sh
case $1 in --version) echo 'version: 9999 (abcdef)' >&2; exit 0 ;; --list-devices) exit 0 ;; esac
"""


def refused(
    control: Control, engines: Engines, node: LabNode, program: str, *, text: str = "", mode: int = 0o755
) -> dict[str, Any]:
    """The error of an infer whose llama-server is this program."""
    node.write("llama-server", program, mode=mode)
    home = node.exec_local("pwd").stdout.strip()
    control.inventory(
        node, every={"engine": "llama-server", "engine_path": f"{home}/llama-server"}, text=text
    )
    answer = control.rbee("--json", "infer", *model(engines), PROMPT)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    return dict(json.loads(answer.stdout.splitlines()[-1])["error"])


def programs_of(node: LabNode) -> list[str]:
    return [
        " ".join(p.argv)
        for p in node.processes()
        if any("workers" in word or "llama-server" in word for word in p.argv)
    ]


def test_a_build_for_another_cpu_is_told_before_a_start(
    node: LabNode, control: Control, engines: Engines
) -> None:
    error = refused(control, engines, node, "#!/bin/sh\nkill -ILL $$\n")
    assert error["code"] == "ENGINE_BROKEN"
    assert "instruction" in error["message"]


def test_a_binary_of_another_architecture(node: LabNode, control: Control, engines: Engines) -> None:
    error = refused(control, engines, node, FOREIGN)
    assert error["code"] == "ENGINE_BROKEN"
    assert "exit status 126, found but cannot be executed" in error["message"]
    assert error["hint"].startswith(f"change engine_path of node {node.name} in the inventory")


def test_an_engine_that_ends_at_once(node: LabNode, control: Control, engines: Engines) -> None:
    error = refused(
        control, engines, node, FAKE + "echo 'cannot find the \x1b[31mgiggle\x1b[0m file' >&2\nexit 3\n"
    )
    assert error["code"] == "WORKER_START_FAILED"
    assert error["details"]["exit_status"] == 3
    assert any("giggle" in line for line in error["details"]["last_lines"])
    assert "\x1b" not in json.dumps(error)
    (worker,) = workers(control)
    assert worker["state"] == "failed"
    assert programs_of(node) == []
    assert "giggle" in control.rbee("workers", "logs", worker["id"]).stdout


@pytest.mark.parametrize(("signal", "words"), [("KILL", "OOM"), ("SEGV", "segmentation")])
def test_an_engine_that_a_signal_ends(
    node: LabNode, control: Control, engines: Engines, signal: str, words: str
) -> None:
    error = refused(control, engines, node, FAKE + f"kill -{signal} $$\n")
    assert error["code"] == "WORKER_START_FAILED"
    assert words in error["message"]


def test_an_engine_that_never_listens_is_stopped(node: LabNode, control: Control, engines: Engines) -> None:
    began = time.monotonic()
    error = refused(
        control, engines, node, FAKE + "exec sleep 600\n", text="[timeouts]\nstart = 2\nterm = 2\n"
    )
    assert error["code"] == "WORKER_START_TIMEOUT"
    assert time.monotonic() - began < 20
    eventually(lambda: not programs_of(node), within=5, why="it was stopped")


def test_a_full_disk_where_workers_have_their_records(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    node = make_node(sshd_options={"SetEnv": "XDG_STATE_HOME=/run/small"}, disks={"small": "1m"})
    control.inventory(node, every=engines.inventory_keys("xllamacpp"))
    start = ("workers", "start", *model(engines))
    for place in ("no directory", "no file"):
        fill(node, "/run/small")
        error = control.failed(*start)
        assert error["code"] == "DISK_FULL", place
        assert error["message"].endswith(": its disk is full")
        looked = control.rbee(*shlex.split(error["hint"], comments=True)[1:])
        assert "100%" in next(line for line in looked.stdout.splitlines() if "/run/small" in line)
        node.exec_local("rm /run/small/other")
        if place == "no directory":
            assert workers(control) == []
    answer = control.rbee(*start)
    assert answer.returncode == 0, answer.stderr
    # What runs goes on without a disk, and how it ends is seen all the same.
    fill(node, "/run/small")
    assert control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT).returncode == 0
    kill(node, *engines_on(node))
    eventually(lambda: workers(control)[0]["state"] == "dead", within=10, why="its end is seen")
    assert json.loads(control.rbee("--json", "cleanup", check=True).stdout)["pruned"] == [
        answer.stdout.strip()
    ]


def test_a_login_that_may_start_no_programs(make_node: Callable[..., LabNode], control: Control) -> None:
    node = make_node(shell="/bin/bash", rc="ulimit -u 2\n")
    control.inventory(node)
    error = control.failed("infer", "--model", "file:///m.gguf", PROMPT)
    assert error["code"] == "ENGINE_MISSING"
    assert error["message"].endswith("; the probe ended early, so that not all is known")
    assert "annot fork" in control.rbee(*shlex.split(error["hint"], comments=True)[1:]).stderr


def test_a_backend_that_the_node_has_not_is_no_silent_cpu_run(
    node: LabNode, control: Control, engines: Engines
) -> None:
    control.inventory(node, every=engines.inventory_keys("xllamacpp"))
    answer = control.rbee("--json", "infer", "--backend", "cuda", *model(engines), PROMPT)
    error = json.loads(answer.stdout.splitlines()[-1])["error"]
    assert error["code"] == "BACKEND_UNAVAILABLE"
    assert "--backend cpu" in error["hint"]
    assert workers(control) == []
