"""The whole job on machines of different users, host keys and login shells, and of different ways to them."""

from __future__ import annotations

import json
from collections.abc import Callable

from nodes.serving import GREEDY, PROMPT, engines_on, eventually, model, workers

from nodekit import Control, LabNode
from nodekit.engines import Engines

BANNER = "echo '*** Welcome. All your logins are logged. ***'; echo noise >&2\n"
NO_NEWLINE = "print -n 'no newline at the end'\n"


def test_infer_workers_logs_and_cleanup_on_each(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    dash = make_node(shell="/bin/dash")
    bash = make_node(shell="/bin/bash", rc=BANNER)
    zsh = make_node(shell="/bin/zsh", rc=NO_NEWLINE)
    far = make_node(reachable_from=dash)
    nodes = {dash.name: dash, bash.name: bash, far.name: far, "alias": zsh}
    assert len({(node.user, node.host_key_line.split()[-1]) for node in nodes.values()}) == 4
    # What only ssh_config knows: where it is, and whose account.
    control.ssh_config.write_text(f"Include extra\nHost lab-*\n  User {zsh.user}\n")
    (control.home / ".ssh/extra").write_text(f"Host lab-zsh\n  HostName {zsh.address}\n  Port {zsh.port}\n")
    control.trust(zsh)
    also = {
        far.name: engines.inventory_keys("xllamacpp") | {"jump": dash.name},
        "alias": engines.inventory_keys("xllamacpp") | {"host": "lab-zsh"},
    }
    control.inventory(dash, bash, far, every=engines.inventory_keys("xllamacpp"), nodes_also=also)

    words = ("infer", *model(engines), *GREEDY, "--max-tokens", "4", PROMPT)
    asked = {name: control.rbee_popen(*words, "--node", name) for name in nodes}
    answers = {name: process.communicate(timeout=100) for name, process in asked.items()}
    assert {asked[name].returncode for name in nodes} == {0}, answers
    said = {out for out, _ in answers.values()}
    assert len(said) == 1 and said != {""}, answers

    listed = workers(control)
    assert sorted(worker["node"] for worker in listed) == sorted(nodes)
    assert [len(engines_on(node)) for node in nodes.values()] == [1] * 4
    for worker in listed:
        logs = control.rbee("workers", "logs", worker["id"], "-n", "2")
        assert (logs.returncode, len(logs.stdout.splitlines())) == (0, 2), logs.stderr
        assert "Welcome" not in logs.stdout and "noise" not in logs.stdout

    ids = {str(worker["id"]) for worker in listed}
    stopped: set[str] = set()

    def all_stopped() -> bool:
        cleaned = control.rbee("--json", "cleanup", "--idle", "0s")
        assert cleaned.returncode == 0, cleaned.stderr
        report = json.loads(cleaned.stdout)
        assert report["unreachable"] == []
        stopped.update(report["stopped"])
        return stopped == ids

    eventually(all_stopped, within=60, why="each was seen idle by its ticker, and stopped")
    assert [engines_on(node) for node in nodes.values()] == [[]] * 4
