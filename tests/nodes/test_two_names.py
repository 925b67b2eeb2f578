"""One machine under two names of the inventory: an alias and its address, or in and out of the office."""

from __future__ import annotations

import json

from nodes.serving import GREEDY, PROMPT, engines_on, events, model, workers

from nodekit import Control, LabNode
from nodekit.engines import Engines


def twins(control: Control, engines: Engines, node: LabNode) -> None:
    where = {"host": node.address, "port": node.port, "user": node.user}
    keys = engines.inventory_keys("xllamacpp")
    control.inventory(node, every=keys, nodes_also={"twin": where | keys})


def test_a_worker_is_found_under_either_name(node: LabNode, control: Control, engines: Engines) -> None:
    twins(control, engines, node)
    words = ["--json", "infer", *model(engines), *GREEDY, "--max-tokens", "2", PROMPT]
    first = events(control.rbee(*words, "--node", node.name))[0]
    second = events(control.rbee(*words, "--node", "twin"))[0]
    assert (second["worker"], second["node"], second["reused"]) == (first["worker"], "twin", True)
    assert {worker["node"] for worker in workers(control)} == {node.name, "twin"}
    start = first["worker"][:8]
    for forgotten in (False, True):
        if forgotten:
            (control.home / ".local/state/rbee/registry.json").unlink()
        logs = control.rbee("workers", "logs", start)
        assert logs.stdout, logs.stderr
    stopped = control.rbee("--json", "workers", "stop", start)
    assert stopped.returncode == 0, stopped.stdout
    assert json.loads(stopped.stdout)["stopped"] == [first["worker"]]
    assert engines_on(node) == []


def test_all_means_each_once(node: LabNode, control: Control, engines: Engines) -> None:
    twins(control, engines, node)
    words = ["--json", "infer", *model(engines), *GREEDY, "--max-tokens", "2", PROMPT]
    first = events(control.rbee(*words, "--node", "twin"))[0]
    stopped = control.rbee("--json", "workers", "stop", "--all")
    assert (stopped.returncode, stopped.stderr.count("stopping")) == (0, 1), stopped.stderr
    assert json.loads(stopped.stdout)["stopped"] == [first["worker"]]
    again = events(control.rbee(*words))[0]
    cleaned = control.rbee("--json", "cleanup", "--idle", "0s")
    said = json.loads(cleaned.stdout)
    assert again["worker"] in [*said["stopped"], *(kept["id"] for kept in said["kept"])]
    assert said["unreachable"] == []
