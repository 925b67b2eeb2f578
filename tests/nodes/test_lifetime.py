"""How a worker's life ends, and how it does not: lease, cleanup, drain, kills, reboots, silent networks."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
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


def infer(control: Control, engines: Engines, *options: str, prompt: str = PROMPT) -> Any:
    return control.rbee("--json", "infer", *model(engines), *GREEDY, "--max-tokens", "4", *options, prompt)


def supervisors_on(node: LabNode) -> list[int]:
    return [p.pid for p in node.processes() if any(word.endswith("supervise.sh") for word in p.argv)]


def sleepers_on(node: LabNode) -> list[int]:
    return [p.pid for p in node.processes() if p.argv[:2] == ("sleep", "600")]


def cleanup(control: Control, *options: str) -> dict[str, Any]:
    answer = control.rbee("--json", "cleanup", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return dict(json.loads(answer.stdout))


def test_a_worker_ends_with_its_lease_though_nobody_comes_back(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node, lease=5)
    assert infer(control, engines).returncode == 0
    assert engines_on(node)
    eventually(lambda: not engines_on(node) and not supervisors_on(node), within=5 + 70, why="lease over")
    assert workers(control) == []
    assert infer(control, engines).returncode == 0, "the next request starts the next worker"


def test_cleanup_stops_what_is_idle_and_only_that(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    infer(control, engines)
    (worker,) = workers(control)
    kept = cleanup(control, "--idle", "5m")
    assert [entry["id"] for entry in kept["kept"]] == [worker["id"]]
    eventually(lambda: (workers(control)[0]["idle_seconds"] or 0) >= 5, within=30, why="an idle tick")
    assert cleanup(control, "--idle", "5s", "--dry-run")["stopped"] == [worker["id"]]
    assert engines_on(node), "a dry run stops nothing"
    assert cleanup(control, "--idle", "5s")["stopped"] == [worker["id"]]
    assert engines_on(node) == []
    assert supervisors_on(node) == []
    silent = control.rbee("cleanup", "--idle", "5s")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


def test_cleanup_leaves_another_control_machines_worker_unless_told(
    node: LabNode, control: Control, lab: Any, engines: Engines
) -> None:
    other = lab.control(f"other{next(lab.names)}")
    for machine in (control, other):
        equip(machine, engines, node)
    infer(control, engines)
    (worker,) = workers(other)
    eventually(lambda: (workers(other)[0]["idle_seconds"] or 0) >= 5, within=30, why="an idle tick")
    assert cleanup(other, "--idle", "5s")["stopped"] == []
    assert json.loads(other.rbee("--json", "workers", "stop", "--all").stdout)["stopped"] == []
    assert cleanup(other, "--idle", "5s", "--any-owner")["stopped"] == [worker["id"]]
    lab.remove(other)


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
    assert worker["id"] in cleanup(control, "--idle", "5m")["pruned"]


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


@pytest.mark.parametrize("moment", [0.15, 0.35, 0.5, 0.7, 0.9, 1.2])
def test_a_killed_cli_is_no_obstacle(
    node: LabNode, control: Control, engines: Engines, moment: float
) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("infer", *endless(engines))
    time.sleep(moment)
    process.kill()
    process.wait()
    answer = infer(control, engines)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(engines_on(node)) == 1


@pytest.mark.parametrize("moment", [0.2, 0.4, 0.6, 0.8, 1.1])
def test_a_network_that_goes_silent_is_no_obstacle_to_others(
    node: LabNode, control: Control, lab: Any, engines: Engines, moment: float
) -> None:
    silent = lab.control(f"silent{next(lab.names)}", own_network=True)
    for machine in (control, silent):
        equip(machine, engines, node)
    process = silent.rbee_popen("infer", *model(engines), "--max-tokens", "1", PROMPT)
    time.sleep(moment)
    silent.cut()
    began = time.monotonic()
    answer = infer(control, engines)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert time.monotonic() - began < 20
    assert len(engines_on(node)) == 1
    process.kill()
    lab.remove(silent)


def test_requests_against_a_cleanup_in_a_loop(node: LabNode, control: Control, engines: Engines) -> None:
    """25 s here; RBEE_SOAK_SECONDS=300 runs the same for as long as that."""
    equip(control, engines, node)
    infer(control, engines)
    ended = threading.Event()
    stopped: list[str] = []

    def clean() -> None:
        while not ended.is_set():
            stopped.extend(cleanup(control, "--idle", "5s")["stopped"])

    thread = threading.Thread(target=clean)
    thread.start()
    chance = random.Random(7)
    try:
        end = time.monotonic() + float(os.environ.get("RBEE_SOAK_SECONDS", "25"))
        # A machine so busy that no pause held a whole idle tick gets more of them.
        while time.monotonic() < end or (not stopped and time.monotonic() < end + 60):
            answer = infer(control, engines)
            assert answer.returncode == 0, answer.stdout + answer.stderr
            assert events(answer)[-1]["event"] == "done"
            time.sleep(chance.choice([0, 0, 0, 10.2]))
    finally:
        ended.set()
        thread.join()
    assert stopped, "the cleanup never stopped anything: the test has shown nothing"


def chews_unharmed(control: Control, *words: str) -> None:
    """A cleanup that calls nothing too fresh leaves a worker alone that has a long prompt to read."""
    prompt = "A long text about nothing in particular. " * 120
    running = control.rbee_popen("--json", "infer", *words, "--max-tokens", "2", prompt)
    eventually(lambda: workers(control)[0]["state"] == "busy", within=10, why="the request is there")
    looks = 0
    while running.poll() is None:
        stopped = cleanup(control, "--idle", "0s")["stopped"]
        if running.poll() is None:  # else the answer was complete, and the worker idle
            assert stopped == []
            looks += 1
    assert running.returncode == 0
    assert looks > 1, "the prompt was read too fast to show anything"


def test_a_long_prompt_is_not_idle(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    infer(control, engines, "--context", "8192")
    chews_unharmed(control, *model(engines), "--context", "8192")


def test_a_worker_that_computes_elsewhere_is_not_idle(
    node: LabNode, control: Control, engines: Engines
) -> None:
    port = 50052
    node.exec_local(f"setsid {engines.rpc_server} -p {port} >/dev/null 2>&1 </dev/null &")
    preset = (
        f'[models.far]\nsource = "file://{engines.model}"\ncontext = 8192\n'
        f'args = ["--rpc", "127.0.0.1:{port}", "--n-gpu-layers", "99", "--device", "RPC0"]\n'
    )
    equip(control, engines, node, engine="llama-server", text=preset)
    warm = control.rbee("--json", "infer", "--model", "far", "--max-tokens", "1", PROMPT)
    assert warm.returncode == 0, warm.stdout + warm.stderr
    chews_unharmed(control, "--model", "far")


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
    assert worker["endpoint"].startswith("unix:/tmp/rbee-")
    directory = worker["endpoint"].removeprefix("unix:").rpartition("/")[0]
    assert node.exec_local(f"stat -c '%a %u' {directory}; id -u").stdout.split()[::2][0] == "700"
    control.rbee("workers", "stop", "--all", check=True)
    # Somebody else's directory, or a symlink, in that place is refused, never used.
    node.exec_local(f"rmdir {directory} && ln -s /tmp {directory}")
    refused = events(infer(control, engines))[-1]["error"]
    assert directory in refused["message"]
