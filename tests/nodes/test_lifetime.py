"""How a worker's life ends, and how it does not: lease, drain, kills, reboots, shared homes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def infer(control: Control, engines: Engines, *options: str, prompt: str = PROMPT) -> Any:
    return control.rbee("--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", *options, prompt)


def supervisors_on(node: LabNode) -> list[int]:
    return [p.pid for p in node.processes() if any(word.endswith("supervise.sh") for word in p.argv)]


def sleepers_on(node: LabNode) -> list[int]:
    return [p.pid for p in node.processes() if p.argv[:2] == ("sleep", "600")]


def test_a_worker_ends_with_its_lease_though_nobody_comes_back(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, lease=5)
    assert infer(control, engines).returncode == 0
    assert engines_on(node)
    eventually(lambda: not engines_on(node) and not supervisors_on(node), within=5 + 70, why="lease over")
    assert workers(control) == []
    assert infer(control, engines).returncode == 0, "the next request starts the next worker"


def test_stop_waits_for_a_running_answer_and_now_does_not(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    words = ["--json", "infer", *endless(engines)]
    infer(control, engines)
    running = control.rbee_popen(*[word.replace("100000", "120") for word in words])
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.readline()
    stop = control.rbee("--json", "workers", "stop", "--all", timeout=90)
    assert stop.returncode == 0, stop.stderr
    rest = [json.loads(line) for line in running.stdout]
    assert rest[-1].get("event") == "done", rest[-1]
    infer(control, engines)
    running = control.rbee_popen(*words)
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.readline()
    began = time.monotonic()
    assert control.rbee("workers", "stop", "--all", "--now").returncode == 0
    assert time.monotonic() - began < 20
    assert [json.loads(line) for line in running.stdout][-1]["error"]["code"] == "WORKER_CRASHED"
    assert engines_on(node) == []


def test_a_worker_that_ignores_term_is_killed(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node, text="[timeouts]\nterm = 2\n")
    infer(control, engines)
    (worker,) = workers(control)
    kill(node, *engines_on(node), signal="STOP")
    stop = control.rbee("--json", "workers", "stop", "--now", worker["id"])
    assert stop.returncode == 0, stop.stderr
    assert json.loads(stop.stdout)["forced"] == [worker["id"]]
    assert f"warning: worker {worker['id']} on {node.name} did not end on TERM and was killed" in stop.stderr
    assert engines_on(node) == []


def test_a_killed_supervisor_takes_its_engine_along(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    infer(control, engines)
    kill(node, *supervisors_on(node))
    eventually(lambda: not engines_on(node), within=10, why="the engine ended")
    (worker,) = workers(control)
    assert worker["state"] == "dead"
    assert infer(control, engines).returncode == 0
    assert len(engines_on(node)) == 1
    cleaned = control.rbee("--json", "cleanup", "--idle", "5m", check=True)
    assert worker["id"] in json.loads(cleaned.stdout)["pruned"]


def test_an_engine_behind_a_wrapper_without_exec_is_ended_with_it(
    node: LabNode, control: Control, engines: Engines
) -> None:
    home = node.exec_local("pwd").stdout.strip()
    node.write("python", f'#!/bin/sh\n{engines.xllamacpp_python} "$@"\nexit $?\n', mode=0o755)
    control.inventory(node, every={"engine": "xllamacpp", "python": f"{home}/python"})
    answer = infer(control, engines)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert engines_on(node)
    kill(node, *supervisors_on(node))
    workers(control)  # the next command finds the orphan
    eventually(lambda: not engines_on(node), within=10, why="the orphan ended")


def test_a_reboot_leaves_dead_workers_and_the_next_infer_starts_one(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    infer(control, engines)
    (before,) = workers(control)
    node.reboot()
    assert [worker["state"] for worker in workers(control)] == ["dead"]
    again = infer(control, engines)
    assert again.returncode == 0, again.stdout + again.stderr
    assert events(again)[0]["worker"] != before["id"]


def test_a_pid_that_is_another_programs_now_is_left_alone(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    infer(control, engines)
    (worker,) = workers(control)
    directory = Path(worker["log"]).parent
    kill(node, *supervisors_on(node))
    eventually(lambda: not engines_on(node), within=10, why="the engine ended")
    node.exec_local("setsid sleep 600 </dev/null >/dev/null 2>&1 &")
    eventually(lambda: sleepers_on(node), within=5, why="the sleeper sleeps")
    (innocent,) = sleepers_on(node)
    was = f"'{innocent} 1'"  # its pid, and the start time of a process that is gone
    node.exec_local(f"cd {directory}; rm -f exit; echo {was} >pid; echo {was} >supervisor")
    assert workers(control)[0]["state"] == "dead"
    assert control.rbee("workers", "stop", worker["id"]).returncode == 0
    assert innocent in [p.pid for p in node.processes()]
    kill(node, innocent)


def test_two_nodes_that_share_a_home_do_not_touch_each_other(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    first = make_node()
    second = make_node(home_of=first)
    equip(control, engines, first, second)
    for node in (first, second):
        assert infer(control, engines, "--node", node.name).returncode == 0
    assert [len(workers(control, "--node", node.name)) for node in (first, second)] == [1, 1]
    assert control.rbee("workers", "stop", "--node", first.name).returncode == 0
    assert engines_on(first) == []
    assert len(engines_on(second)) == 1
    assert text_of(infer(control, engines, "--node", second.name))


def test_a_state_directory_too_deep_for_a_socket_gets_a_private_one(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    node = make_node()
    node.must_be_a_machine("a /tmp of its own")
    node = make_node(sshd_options={"SetEnv": f"XDG_STATE_HOME=/tmp/{'x' * 80}"})
    equip(control, engines, node)
    answer = infer(control, engines)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (worker,) = workers(control)
    assert worker["endpoint"].startswith("unix:/tmp/rbee.")
    directory = worker["endpoint"].removeprefix("unix:").rpartition("/")[0]
    assert node.exec_local(f"stat -c %a {directory}").stdout.strip() == "700"
    assert infer(control, engines).returncode == 0
    control.rbee("workers", "stop", "--all", check=True)
    assert node.exec_local("ls -d /tmp/rbee*", check=False).stdout == ""
