"""What stands between a login and a worker, told so that one knows what to change."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from nodes.serving import GREEDY, PROMPT, equip, eventually, model, workers
from nodes.test_misses import error_of

from nodekit import Control, LabNode
from nodekit.engines import Engines

MakeNode = Callable[..., LabNode]


@pytest.mark.parametrize(
    ("sshd", "listen", "key", "what"),
    [
        ({"AllowStreamLocalForwarding": "no"}, "unix", "", "AllowStreamLocalForwarding is off"),
        ({"AllowTcpForwarding": "no"}, "tcp", "", "AllowTcpForwarding is off"),
        ({}, "unix", "restrict ", "no channel at all: restrict in the key's line of authorized_keys"),
    ],
    ids=["stream-local", "tcp", "restrict"],
)
def test_forwarding_that_is_forbidden(
    make_node: MakeNode,
    control: Control,
    engines: Engines,
    sshd: dict[str, str],
    listen: str,
    key: str,
    what: str,
) -> None:
    node = make_node(sshd_options=sshd)
    node.authorize(key + node.public_key)
    equip(control, engines, node, listen=listen)
    error = error_of(control.rbee("--json", "infer", *model(engines), PROMPT))
    assert error["code"] == "FORWARDING_REFUSED"
    assert what in error["message"]
    assert ('listen = "tcp"' in error["hint"]) is (what.startswith("AllowStream")), "where it helps"
    assert workers(control) == [], "one that nobody can reach is not left running"


@pytest.mark.parametrize("where", ["sshd_config", "authorized_keys", "rc"])
def test_a_login_that_runs_something_else(make_node: MakeNode, control: Control, where: str) -> None:
    forced = "echo Only backups here.; exit 3"
    options = {"ForceCommand": forced} if where == "sshd_config" else {}
    shell, rc = ("/bin/bash", "echo Only backups here.\nexit 3\n") if where == "rc" else (None, None)
    node = make_node(sshd_options=options, shell=shell, rc=rc)
    if where == "authorized_keys":
        node.authorize(f'command="{forced}" {node.public_key}')
    control.inventory(node)
    error = control.failed("infer", "--model", "file:///m.gguf", PROMPT)
    assert error["code"] == "SHELL_UNUSABLE"
    assert "(exit status 3); it said: Only backups here." in error["message"]
    assert error["details"] == {"node": node.name, "output": "Only backups here.", "status": 3}
    assert f"ssh to {node.name} by hand" in error["hint"]


def test_one_session_is_enough_for_a_worker_and_its_answer(
    make_node: MakeNode, control: Control, engines: Engines
) -> None:
    node = make_node(sshd_options={"MaxSessions": 1})
    equip(control, engines, node)
    words = ("infer", *model(engines), *GREEDY, "--max-tokens", "4", PROMPT)
    first = control.rbee(*words)
    assert first.returncode == 0, first.stderr
    assert control.rbee(*words, "--no-wait").stdout == first.stdout != ""
    assert control.rbee("workers", "stop", "--all").returncode == 0
    assert "refuse" not in node.sshd_log and "no more sessions" not in node.sshd_log


@contextlib.contextmanager
def at_the_door(node: LabNode) -> Iterator[None]:
    """Somebody who connects, and does not log in."""
    for _ in range(100):  # the last one may not have left yet
        with socket.create_connection((node.address, node.port)) as stranger:
            if stranger.recv(4) == b"SSH-":
                yield
                return
        time.sleep(0.05)
    raise AssertionError("sshd lets nobody in")


def test_a_server_with_too_many_at_its_door(make_node: MakeNode, control: Control) -> None:
    node = make_node(sshd_options={"MaxStartups": 1})
    control.inventory(node)
    with at_the_door(node):
        error = error_of(control.rbee("--json", "infer", "--model", "file:///m.gguf", PROMPT))
        before = node.sshd_log.count("MaxStartups")
        waiting = control.rbee_popen("nodes", "status", "--json")
        eventually(lambda: node.sshd_log.count("MaxStartups") > before, within=20, why="it was turned away")
    out, err = waiting.communicate(timeout=30)
    assert json.loads(out)["nodes"][0]["state"] == "up", out + err
    assert (error["code"], len(error["details"]["attempts"])) == ("SESSION_LIMIT", 5)
    assert error["message"].endswith("took none of 5 tries: Exceeded MaxStartups")
    assert "MaxStartups" in error["hint"]


def test_what_nobody_who_answers_knows(make_node: MakeNode, control: Control) -> None:
    there, gone = make_node(), make_node()
    control.inventory(there, gone, text="[timeouts]\nconnect_tries = 1\n")
    gone.kill_sshd()
    error = control.failed("workers", "logs", "0123", status=2)
    assert error["code"] == "WORKER_UNKNOWN"
    assert error["message"] == f"there is no worker 0123 on the nodes that answered; {gone.name} did not"
    missing = control.failed("models", "rm", "any")
    assert missing["code"] == "MODEL_NOT_FOUND"
    assert missing["message"].endswith(f"; {gone.name} could not be asked")
    there.kill_sshd()
    assert control.failed("workers", "logs", "0123")["code"] == "NODE_UNREACHABLE"


def test_each_way_in_that_is_barred(make_node: MakeNode, control: Control) -> None:
    node, hop = make_node(), make_node()
    infer = ("infer", "--node", node.name, "--model", "file:///m.gguf", PROMPT)
    table = {node.name: {"jump": hop.name}}

    control.inventory(node, trust=False)
    unknown = control.failed(*infer)
    assert (unknown["code"], unknown["hint"]) == ("HOST_KEY_UNKNOWN", f"rbee nodes trust {node.name}")
    assert unknown["details"]["fingerprint"] in unknown["message"]

    control.trust(node)
    line = node.public_key
    node.authorize()
    refused = control.failed(*infer)
    assert refused["code"] == "AUTH_FAILED"
    key = control.home / ".ssh/id_ed25519"
    for part in (f"user '{node.user}' at {node.address}", f"tried {key}", "no SSH agent"):
        assert part in refused["message"]
    node.authorize(line)

    before = node.host_key_line
    node.renew_host_key()
    changed = control.failed(*infer)
    assert changed["code"] == "HOST_KEY_CHANGED"
    seen, known = changed["details"]["fingerprint"], changed["details"]["known_fingerprint"]
    assert seen != known and before != node.host_key_line
    for part in (seen, f"{control.known_hosts} line 1 has ssh-ed25519 {known}", "Nothing was sent to it"):
        assert part in changed["message"]
    assert f"ssh-keygen -R {node.address} -f {control.known_hosts}" in changed["hint"]

    node.kill_sshd()
    gone = control.failed(*infer)
    assert gone["code"] == "NODE_UNREACHABLE"
    assert f"at {node.address} port {node.port}: try 1: connection refused; try 2: " in gone["message"]
    assert len(gone["details"]["attempts"]) == 3

    hop.kill_sshd()
    control.inventory(hop, node, nodes_also=table, text="[timeouts]\nconnect_tries = 1\n")
    jump = control.failed(*infer)
    assert (jump["code"], jump["details"]["cause"]) == ("JUMP_FAILED", "NODE_UNREACHABLE")
    assert f"node '{node.name}': jump host '{hop.name}' failed: " in jump["message"]

    control.inventory(node, every={"identity_file": "/nowhere/id"})
    missing = control.failed(*infer, status=2)
    assert (missing["code"], "/nowhere/id" in missing["message"]) == ("KEY_NOT_FOUND", True)


def test_no_variable_of_this_machine_goes_to_a_node(make_node: MakeNode, control: Control) -> None:
    accepts = {"AcceptEnv": "*"}
    bastion = make_node(sshd_options=accepts)
    node = make_node(reachable_from=bastion, sshd_options=accepts)
    jump = f"{bastion.user}@{bastion.address}:{bastion.port}"
    far = {"host": node.address, "port": node.port, "user": node.user, "jump": [jump]}
    control.inventory(bastion, node, nodes_also={"far": far | {"setup": ["recipes.py:shown"]}})
    (control.home / "recipes.py").write_text("def shown(c):\n    c.run('env')\n    c.run('exit 3')\n")
    control.ssh_config.write_text("Host *\n  SendEnv HF_TOKEN *PROBE*\n  SetEnv SET_PROBE=hf_Secret\n")
    secrets = {"HF_TOKEN": "hf_Secret", "A_PROBE": "hf_Secret"}
    for name in (bastion.name, "far"):
        told = control.rbee("nodes", "run", name, "--", "env", env=secrets)
        assert "SSH_CONNECTION=" in told.stdout, told.stderr
        assert "hf_Secret" not in told.stdout
    told = control.rbee("nodes", "setup", "far", env=secrets)
    assert "SSH_CONNECTION=" in told.stderr, "of Fabric's own connection"
    assert "hf_Secret" not in told.stderr
