"""The log of a command: what happened on connections, scripts and workers, and nothing that is a secret."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator

import pytest
from hubkit import Hub
from nodes.serving import GREEDY, equip, eventually, model
from nodes.test_pull import BYTES, REF, hub_for

from nodekit import Control, LabNode
from nodekit.engines import Engines

TOKEN = "hf_CanaryOfTheHub"
CANARY = "canary-Zx9"


@pytest.fixture
def hub(node: LabNode, control: Control) -> Iterator[Hub]:
    with hub_for(node, control) as hub:
        yield hub


def test_it_tells_what_happened_and_holds_no_secret(
    node: LabNode,
    make_node: Callable[..., LabNode],
    control: Control,
    engines: Engines,
    hub: Hub,
) -> None:
    other = make_node()
    log = control.home / "rbee.log"
    control.env |= {"RBEE_LOG": str(log), "HF_TOKEN": TOKEN}
    hub.add("org/gated-GGUF", {"tiny-Q4_K_M.gguf": BYTES}, token=TOKEN, gated=True)
    equip(control, engines, node, other, env={"SECRET": f"{CANARY}-env"})
    errors = []

    def rbee(*args: str, status: int = 0) -> str:
        answer = control.rbee("--debug", *args, timeout=120)
        assert answer.returncode == status, answer.stdout + answer.stderr
        errors.append(answer.stderr)
        return answer.stdout

    asked = [*model(engines), *GREEDY, "--stop", f"{CANARY}-stop", "--max-tokens", "24", f"{CANARY}-prompt"]
    rbee("infer", "--system", f"{CANARY}-system", *asked)
    said = rbee("infer", *asked).strip()  # on the warm path
    (worker,) = json.loads(rbee("--json", "workers", "list"))["workers"]
    registry = json.loads((control.home / ".local/state/rbee/registry.json").read_text())
    (key,) = (entry["api_key"] for entry in registry["workers"].values() if entry["id"] == worker["id"])
    rbee("models", "pull", REF.replace("tiny-GGUF", "gated-GGUF"), "--node", node.name)
    rbee("models", "pull", f"https://127.0.0.1:9/a.gguf?token={CANARY}", "--node", node.name, status=1)
    rbee("nodes", "run", node.name, "--", "echo", f"{CANARY}-argument")
    rbee("workers", "stop", "--all")
    rbee("nodes", "status", "nowhere", status=2)

    text = log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    where = re.escape(f"{worker['node']}: ")
    for line in (
        r"rbee\.command: rbee infer, rbee \S+, Python",
        rf"rbee\.ssh: {where}opened \S+ port 22 as \S+ in \d+ ms",
        rf"rbee\.script: probe on {node.name}: \d+ ms, exit status 0",
        rf"rbee\.script: start on {worker['node']}: \d+ ms, exit status 0",
        rf"rbee\.place: to choose from: .*node='{other.name}'",
        rf"rbee\.place: {where}xllamacpp \S+ at /",
        rf"rbee\.place: {where}needs \d+ bytes of RAM, has \d+",
        rf"rbee\.worker: {where}worker {worker['id']} is ready",
        rf"rbee\.worker: {where}ask worker {worker['id']}, reused: True",
        rf"rbee\.worker: {where}stop worker {worker['id']}: stopped",
        rf"rbee\.registry: remember worker {worker['id']} on",
        rf"rbee\.script: fetch on {node.name}: \d+ ms, exit status 0",
        rf"rbee\.ssh: {where}closed",
        r"rbee\.command: rbee nodes status: NODE_UNKNOWN after",
    ):
        assert re.search(rf"^\d{{4}}-\d\d-\d\d [\d:.]{{12}} \d+ {line}", text, re.MULTILINE), line
        assert re.search(rf"^[\d:.]{{12}} {line}", "\n".join(errors), re.MULTILINE), line
    links = [link for link in hub.links if link]
    assert links
    for secret in (CANARY, TOKEN, key, *links, said):
        assert secret and secret not in text
    # The narration beside it is another matter: a command line in a hint is the user's own.
    lines = [line for line in "".join(errors).splitlines() if re.match(r"[\d:.]{12} rbee\.", line)]
    assert lines and CANARY not in "\n".join(lines) and key not in "".join(errors)


def test_hops_refusals_and_lost_connections_are_in_it(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    hop = make_node()
    node = make_node(reachable_from=hop)
    control.inventory(hop, node, nodes_also={node.name: {"jump": hop.name}}, trust=False)
    control.env["RBEE_LOG"] = str(log := control.home / "log")
    control.trust(hop)
    assert control.rbee("nodes", "status", node.name).returncode == 0
    control.trust(node)
    with control.rbee_popen("nodes", "run", node.name, "--", "echo on; sleep 60") as running:
        assert running.stdout is not None and running.stdout.readline()
        hop.kill_sshd()
        running.communicate(timeout=30)
    eventually(lambda: "after" in log.read_text().splitlines()[-1], within=5, why="the log ends")
    text = log.read_text()
    assert re.search(rf"rbee\.ssh: {hop.name}: opened .* in \d+ ms", text)
    assert f"rbee.ssh: {node.name}: refused: HOST_KEY_UNKNOWN" in text
    assert re.search(rf"rbee\.ssh: {node.name}: opened .* through {hop.name} in \d+ ms", text)
    assert re.search(rf"rbee\.ssh: {node.name}: lost: ", text), text
    assert re.search(rf"rbee\.script: command on {node.name}: \d+ ms, cut off", text)
    assert "rbee.command: rbee nodes run: exit status 1 after" in text


def test_it_is_silent_until_it_is_asked_for(control: Control, node: LabNode) -> None:
    control.inventory(node)
    answer = control.rbee("-v", "nodes", "status")
    assert answer.returncode == 0
    assert "rbee." not in answer.stderr


def test_a_log_that_cannot_be_written_is_said_at_once(control: Control, node: LabNode) -> None:
    control.inventory(node)
    answer = control.rbee("nodes", "status", env={"RBEE_LOG": str(control.home / "no" / "log")})
    assert answer.returncode == 2
    assert answer.stderr.startswith(
        f'error: RBEE_LOG="{control.home}/no/log" cannot be written: No such file'
    ), answer.stderr
    full = control.rbee("nodes", "status", env={"RBEE_LOG": "/dev/full"})
    assert (full.returncode, full.stderr) == (0, "")


def test_commands_add_to_one_file(control: Control, node: LabNode) -> None:
    control.inventory(node)
    log = control.home / "log"
    log.write_text("kept\n")
    os.chmod(log, 0o640)
    running = [control.rbee_popen("nodes", "status", env={"RBEE_LOG": str(log)}) for _ in range(4)]
    for process in running:
        process.communicate(timeout=60)
    kept, *lines = log.read_text().splitlines()
    assert kept == "kept"
    assert len({line.split(" ")[2] for line in lines}) == 4
    assert all(re.match(r"\d{4}-\d\d-\d\d [\d:.]{12} \d+ rbee\.\w+: ", line) for line in lines)
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
