"""`workers stop --all --now`: over in 35 s with the defaults, whatever workers and nodes do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes.serving import eventually, kill, model, workers
from nodes.test_failures import ANSWERS
from nodes.test_start_errors import FAKE, programs_of

from nodekit import Control, LabNode
from nodekit.engines import Engines

# What a shell ignores, its programs ignore too. Without exec: the wrapper, killed, leaves the engine behind.
DEAF = FAKE + "trap '' TERM\n(" + ANSWERS.replace("{answer}", 'b"."') + ")\nexit 1\n"


def supervisor(node: LabNode, worker: dict[str, Any]) -> int:
    return int(node.exec_local(f"cut -d' ' -f1 {Path(worker['log']).parent}/supervisor").stdout)


@pytest.mark.timeout(180)
def test_everything_is_over_in_35_seconds(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    bad, gone, silent = make_node(), make_node(), make_node()
    bad.must_be_a_machine("a cut network")
    for node in (bad, gone, silent):
        node.write("llama-server", DEAF, mode=0o755)
    control.inventory(
        *(bad, gone, silent),
        every={"engine": "llama-server"},
        nodes_also={n.name: {"engine_path": f"{n.home}/llama-server"} for n in (bad, gone, silent)},
    )

    def start(node: LabNode, context: int) -> dict[str, Any]:
        words = ["workers", "start", "--node", node.name, *model(engines), "--context", str(context)]
        return dict(json.loads(control.rbee("--json", *words, check=True).stdout)["worker"])

    start(bad, 512)  # deaf to TERM
    kill(bad, -start(bad, 1024)["pid"], signal="STOP")  # its whole group
    kill(bad, supervisor(bad, start(bad, 1536)), signal="STOP")
    kill(bad, supervisor(bad, start(bad, 2048)))
    for node in (gone, silent):
        start(node, 512)
    gone.cut()
    began = time.monotonic()
    stop = control.rbee_popen("--json", "workers", "stop", "--all", "--now")
    mark = f"ls {silent.home}/.local/state/rbee/*/workers/*/stopping"
    eventually(lambda: silent.exec_local(mark, check=False).stdout, within=20, why="it is told to stop")
    silent.cut()
    out, err = stop.communicate(timeout=100)
    took = time.monotonic() - began
    said = json.loads(out)
    assert took < 35, err
    assert stop.returncode == 1, "two nodes could not be seen to the end"
    found = {one["node"]: one["error"]["code"] for one in said["unreachable"]}
    assert found == {gone.name: "NODE_UNREACHABLE", silent.name: "CONNECTION_LOST"}, said
    assert (len(said["stopped"]), len(said["forced"])) == (4, 3), said
    assert programs_of(bad) == []
    assert "Traceback" not in err
    # The supervisors go on without us; the node that heard nothing is stopped by the next command.
    eventually(lambda: not programs_of(silent), within=40, why="its supervisor ended it")
    for node in (gone, silent):
        node.mend()
    assert [worker["node"] for worker in workers(control)] == [gone.name]
