"""An engine that was there a moment ago, or is for another kind of machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from nodes.moments import hold, wait_for
from nodes.serving import PROMPT, engines_on, model, text_of, workers
from nodes.test_misses import ask, error_of
from nodes.test_start_errors import programs_of

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import FOREIGN


def wrapped(node: LabNode, control: Control, engines: Engines) -> Path:
    """A Python of the node's own, in whose place something else can be put."""
    control.inventory(node, every={"engine": "xllamacpp", "python": f"{node.home}/python"})
    return node.write("python", f'#!/bin/sh\nexec {engines.xllamacpp_python} "$@"\n', mode=0o755)


@pytest.mark.parametrize(
    ("then", "status", "words"),
    [
        ("nothing", 127, "not found, or a shared library that it needs is missing"),
        ("foreign", 126, "found but cannot be executed: no permission, or built for another kind of machine"),
    ],
)
def test_gone_between_the_look_and_the_start(
    make_node: Callable[..., LabNode],
    control: Control,
    engines: Engines,
    then: str,
    status: int,
    words: str,
) -> None:
    node = make_node(shell="/bin/bash", rc='PATH="$HOME/bin:$PATH"\n')
    place = wrapped(node, control, engines)
    hold(node, "lock", "")
    process = control.rbee_popen("--json", "infer", *model(engines), PROMPT)
    wait_for("lock", node, process)
    place.unlink()
    if then == "foreign":
        node.write("python", FOREIGN, mode=0o755)
    node.write("go", "")
    out, err = process.communicate(timeout=60)
    error = json.loads(out.splitlines()[-1])["error"]
    assert (process.returncode, error["code"], error["details"]["exit_status"]) == (
        1,
        "ENGINE_BROKEN",
        status,
    )
    assert f"exit status {status}, {words}" in error["message"], err
    (failed,) = workers(control)
    assert (failed["state"], error["hint"]) == ("failed", f"rbee workers logs {failed['id']}")
    assert programs_of(node) == []
    # The next look is told what the matter is, and what to do about what the inventory names.
    text = control.rbee("infer", *model(engines), PROMPT)
    assert text.returncode == 1
    assert f"{node.home}/python does not run: exit status {status}, {words}" in text.stderr
    assert f"hint: change python of node {node.name} in the inventory, or remove it" in text.stderr


def test_gone_under_a_running_worker(node: LabNode, control: Control, engines: Engines) -> None:
    place = wrapped(node, control, engines)
    first = ask(control, engines)
    place.unlink()
    assert text_of(ask(control, engines)) == text_of(first) != "", "what runs goes on"
    assert error_of(ask(control, engines, "--context", "512"))["code"] == "ENGINE_MISSING"
    assert len(engines_on(node)) == 1
