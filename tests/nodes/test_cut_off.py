"""Whoever starts a worker can be gone at any moment: killed, or behind a network that went silent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from nodes.moments import first, hold, let_go, lock_holder, wait_for
from nodes.serving import GREEDY, PROMPT, endless, engines_on, eventually, model, workers

from nodekit import Control, LabNode, NodeLab
from nodekit.engines import Engines


@pytest.fixture
def node(make_node: Callable[..., LabNode]) -> LabNode:
    return make_node(shell="/bin/bash", rc='PATH="$HOME/bin:$PATH"\n')


def next_answer(moment: str, node: LabNode, control: Control, *words: str) -> float:
    """An `infer` that finds a node as somebody left it: how many seconds it takes to its answer."""
    began = time.monotonic()
    process = control.rbee_popen("--json", "infer", *words, *GREEDY, "--max-tokens", "2", PROMPT)
    let_go(moment, node, process)
    # Not "in less than the 10 s for which a lock is waited for": this machine may be busy.
    eventually(lambda: lock_holder(node) is None, within=8, why="nobody holds the lock any more")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert json.loads(out.splitlines()[-1])["event"] == "done"
    return time.monotonic() - began


@pytest.mark.parametrize("moment", ["lock", "load", "token"])
def test_a_killed_cli_is_no_obstacle(node: LabNode, control: Control, engines: Engines, moment: str) -> None:
    python = hold(node, moment, str(engines.xllamacpp_python))
    control.inventory(node, every={"engine": "xllamacpp", "python": python})
    process = control.rbee_popen("--json", "infer", *endless(engines))
    assert process.stderr is not None
    assert first(process.stderr, "starting xllamacpp")
    wait_for(moment, node, process)
    process.kill()
    process.wait()
    next_answer(moment, node, control, *model(engines))
    assert len(engines_on(node)) == 1
    assert len(workers(control)) == 1


@pytest.mark.parametrize("moment", ["login", "probe", "lock", "load", "token"])
def test_a_network_that_goes_silent_is_no_obstacle_to_others(
    node: LabNode, control: Control, lab: NodeLab, engines: Engines, moment: str
) -> None:
    python = hold(node, moment, str(engines.xllamacpp_python))
    silent = lab.control(f"silent{next(lab.names)}", own_network=True)
    # Two slots: where an answer to nobody goes on, the next one need not wait for its end.
    preset = f'[models.two]\nsource = "file://{engines.model}"\nparallel = 2\n'
    for machine in (control, silent):
        machine.inventory(node, every={"engine": "xllamacpp", "python": python}, text=preset)
    reporter = ("--max-tokens", "100000", "Tell a very long story.")
    process = silent.rbee_popen("--json", "infer", "--model", "two", *reporter)
    wait_for(moment, node, process)
    silent.cut()
    assert next_answer(moment, node, control, "--model", "two") < 30
    assert len(engines_on(node)) == 1
    process.kill()
    lab.remove(silent)
