"""A worker that dies while it answers: what came of the answer is told, and so is what killed the worker."""

from __future__ import annotations

import json

import pytest
from nodes.moments import PATIENCE, wait_for
from nodes.serving import (
    PROMPT,
    endless,
    engines_on,
    equip,
    events,
    eventually,
    kill,
    model,
    workers,
)
from nodes.test_misses import LOADS_FOR_EVER, ask, error_of
from nodes.test_start_errors import FAKE, programs_of

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import out_of_memory

ENDLESS = 100_000


def token_texts(control: Control, *words: str) -> list[str]:
    """The pieces of an answer, as `--json` tells them."""
    said = events(control.rbee("--json", "infer", *words, check=True))
    return [one["text"] for one in said if one["event"] == "token"]


@pytest.mark.parametrize(
    ("signal", "ended"),
    [
        ("KILL", "exit status 137, killed"),
        ("TERM", "exit status "),  # llama-server would answer to the end first
        ("SEGV", "exit status 139, segmentation fault"),
    ],
)
def test_what_had_come_of_the_answer_is_on_stdout(
    node: LabNode, control: Control, engines: Engines, signal: str, ended: str
) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("infer", *endless(engines))
    assert process.stdout is not None and process.stderr is not None
    text = process.stdout.read(60)
    kill(node, *engines_on(node), signal=signal)
    text += process.stdout.read()  # not by communicate(), which forgets what was read ahead
    err = process.stderr.read()
    assert process.wait(timeout=30) == 1, err
    assert "Traceback" not in err
    (dead,) = workers(control)
    assert dead["state"] == "dead", dead
    error = err[err.index("error: ") :]
    assert f"worker {dead['id']} on node '{node.name}' broke off after " in error
    assert f"hint: rbee workers logs {dead['id']}" in error
    received, _, wanted = error.partition(" broke off after ")[2].partition(" tokens of at most ")
    assert wanted.startswith(f"{ENDLESS}: {ended}")
    # The next worker says the same as its first answer.
    words = [word.replace(str(ENDLESS), received) for word in endless(engines)]
    assert text == "".join(token_texts(control, *words))


def test_the_oom_killer_in_the_middle_of_an_answer(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("--json", "infer", *endless(engines))
    wait_for("token", node, process)
    out_of_memory(node, *engines_on(node))
    rest, err = process.communicate(timeout=30)
    error = json.loads(rest.splitlines()[-1])["error"]
    assert (process.returncode, error["code"], error["details"]["exit_status"]) == (1, "WORKER_CRASHED", 137)
    assert "OOM killer" in error["message"], err
    assert [worker["state"] for worker in workers(control)] == ["dead"]


def test_the_oom_killer_while_a_model_is_loaded(node: LabNode, control: Control, engines: Engines) -> None:
    node.write("llama-server", FAKE + LOADS_FOR_EVER, mode=0o755)
    keys = {"engine": "llama-server", "engine_path": f"{node.home}/llama-server"}
    control.inventory(node, every=keys)
    process = control.rbee_popen("--json", "infer", *model(engines), PROMPT)
    eventually(lambda: states(control) == ["loading"], within=PATIENCE, why="it loads")
    out_of_memory(node, workers(control)[0]["pid"])
    out, err = process.communicate(timeout=30)
    error = json.loads(out.splitlines()[-1])["error"]
    assert (process.returncode, error["code"]) == (1, "WORKER_START_FAILED"), err
    assert error["details"]["exit_status"] == 137
    assert "killed (SIGKILL): often the kernel's OOM killer" in error["message"]
    assert states(control) == ["failed"]
    assert programs_of(node) == []


def test_a_limit_of_its_memory_is_no_fault_of_the_model(
    node: LabNode, control: Control, engines: Engines
) -> None:
    """ulimit -v, as on many a shared machine. The engine says that it failed to load the model."""
    limit = "case $1 in --version | --list-devices) ;; *) ulimit -v 300000 ;; esac"
    node.write("llama-server", f'#!/bin/sh\n{limit}\nexec {engines.llama_server} "$@"\n', mode=0o755)
    control.inventory(node, every={"engine": "llama-server", "engine_path": f"{node.home}/llama-server"})
    error = error_of(ask(control, engines))
    assert error["code"] == "WORKER_START_FAILED", error
    assert states(control) == ["failed"]


def states(control: Control) -> list[str]:
    return [worker["state"] for worker in workers(control)]
