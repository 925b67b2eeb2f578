"""`workers stop --all --now`: over in 35 s, whatever workers and nodes do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes.serving import GREEDY, PROMPT, eventually, kill, model, workers
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
        # 30 by default: a slow machine is to have the difference, and who takes it twice is still too late.
        text="[timeouts]\nterm = 20\n",
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


def test_a_worker_that_somebody_stops_while_it_loads_is_started_anew(
    node: LabNode, control: Control, engines: Engines
) -> None:
    """Whoever asked still wants an answer. The first engine never gets ready, the second one is real."""
    node.write(
        "llama-server",
        f"""#!/bin/sh
case $1 in --version | --list-devices) exec {engines.llama_server} "$@" ;; esac
[ ! -e once ] || exec {engines.llama_server} "$@"
touch once
exec python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[2])
s.listen()
while True:
    c = s.accept()[0]
    c.recv(9999)
    c.sendall(b"HTTP/1.1 503 Loading\\r\\nContent-Length: 0\\r\\n\\r\\n")
    c.close()' "$@"
""".replace("once", f"{node.home}/once"),
        mode=0o755,
    )
    control.inventory(
        node, every={"engine": "llama-server", "engine_path": f"{node.home}/llama-server", "backend": "cpu"}
    )
    asking = control.rbee_popen("infer", *model(engines), *GREEDY, "--max-tokens", "4", PROMPT)
    eventually(lambda: [w["state"] for w in workers(control)] == ["loading"], within=20, why="it loads")
    assert control.rbee("workers", "stop", "--all", "--now").returncode == 0
    out, err = asking.communicate(timeout=60)
    assert (asking.returncode, bool(out.strip())) == (0, True), err
    assert "another command stopped worker" in err
