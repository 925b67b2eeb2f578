"""`rbee cleanup` on real nodes: what is idle, what is not, whose it is, and one run at a time."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from nodes.serving import (
    PROMPT,
    engines_on,
    equip,
    events,
    eventually,
    kill,
    model,
    workers,
)
from nodes.test_lifetime import infer, supervisors_on

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.proc import of_sshd


def cleanup(control: Control, *options: str) -> dict[str, Any]:
    answer = control.rbee("--json", "cleanup", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return dict(json.loads(answer.stdout))


def test_cleanup_stops_what_is_idle_and_only_that(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    infer(control, engines)
    (worker,) = workers(control)
    registry = control.home / ".local/state/rbee/registry.json"
    registry.unlink()
    kept = cleanup(control, "--idle", "5m")
    assert [entry["id"] for entry in kept["kept"]] == [worker["id"]]
    adopted = [entry["id"] for entry in json.loads(registry.read_text())["workers"].values()]
    assert adopted == [worker["id"]], "what was forgotten is adopted"
    eventually(lambda: (workers(control)[0]["idle_seconds"] or 0) >= 5, within=30, why="an idle tick")
    assert cleanup(control, "--idle", "5s", "--dry-run")["stopped"] == [worker["id"]]
    assert engines_on(node), "a dry run stops nothing"
    registry.unlink()
    assert cleanup(control, "--idle", "5s")["stopped"] == [worker["id"]]
    assert engines_on(node) == []
    assert supervisors_on(node) == []
    silent = control.rbee("cleanup", "--idle", "5s")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")


def test_a_worker_used_a_moment_ago_is_kept_and_that_is_said(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    infer(control, engines)
    kill(node, *supervisors_on(node), signal="STOP")  # no tick of theirs comes between
    try:
        infer(control, engines)
        (worker,) = workers(control)
        node.exec_local(f"touch {Path(worker['log']).parent}/used")
        for option in ((), ("--dry-run",)):
            said = control.rbee("cleanup", "--idle", "0s", *option, check=True)
            assert (said.stdout, said.stderr) == ("", f"kept {worker['id']}: used a moment ago\n")
    finally:
        kill(node, *supervisors_on(node), signal="CONT")


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


def test_one_cleanup_at_a_time(node: LabNode, control: Control) -> None:
    control.inventory(node, text="[timeouts]\nconnect = 90\n")
    sshd = " ".join(str(p.pid) for p in node.processes(everybody=True) if of_sshd(p))
    # The kernel connects, and nobody says anything. A child of sshd may just have ended.
    node.exec_local(f"kill -STOP {sshd}", user="root", check=False)

    def logins() -> int:
        found = node.exec_local(f"ss -tnH state established sport = :{node.port}")
        return len(found.stdout.splitlines())

    first = control.rbee_popen("--json", "cleanup")
    eventually(lambda: logins() == 1, within=30, why="the first is on its way")
    second = control.rbee("--json", "--verbose", "cleanup", check=True)
    assert "another cleanup is under way" in second.stderr
    assert json.loads(second.stdout) == {"stopped": [], "kept": [], "pruned": [], "unreachable": []}
    assert (first.poll(), logins()) == (None, 1)
    node.exec_local(f"kill -CONT {sshd}", user="root", check=False)
    out, err = first.communicate(timeout=60)
    assert (first.returncode, json.loads(out)["unreachable"]) == (0, []), out + err
    assert "under way" not in control.rbee("--verbose", "cleanup", check=True).stderr


def test_requests_against_a_cleanup_in_a_loop(node: LabNode, control: Control, engines: Engines) -> None:
    """15 s here; RBEE_SOAK_SECONDS=300 runs the same for as long as that."""
    equip(control, engines, node)
    infer(control, engines)
    ended = threading.Event()
    answers, stopped = 0, list[str]()

    def clean() -> None:
        while not ended.is_set():
            stopped.extend(cleanup(control, "--idle", "5s")["stopped"])

    thread = threading.Thread(target=clean)
    thread.start()
    chance = random.Random(7)
    try:
        end = time.monotonic() + float(os.environ.get("RBEE_SOAK_SECONDS", "15"))
        # A machine so busy that no pause held a whole idle tick gets more of them.
        while time.monotonic() < end or (not stopped and time.monotonic() < end + 60):
            answer = infer(control, engines)
            assert answer.returncode == 0, answer.stdout + answer.stderr
            assert events(answer)[-1]["event"] == "done"
            answers += 1
            time.sleep(chance.choice([0, 0, 0, 10.2]))
    finally:
        ended.set()
        thread.join()
    print(f"{answers} answers, {len(stopped)} workers stopped")
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
