"""SIGTERM and SIGHUP are a Ctrl+C, whatever a command is at: 130, one word, nothing goes on for nobody."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hubkit import Fault
from nodes.moments import PATIENCE, hold, wait_for
from nodes.serving import PROMPT, endless, engines_on, equip, eventually, model, workers
from nodes.test_pull import REF, hub_for, parts
from nodes.test_store import MIB, STORE, a_model, rbee

from nodekit import Control, LabNode
from nodekit.engines import Engines

TERM, HUP = signal.SIGTERM, signal.SIGHUP


GOES_ON = "; the same command goes on where it stopped"


def ends(process: subprocess.Popen[str], number: int, more: str = "") -> tuple[str, str]:
    """Send the signal; the rest of stdout, and of stderr without its last line: cancelled, and `more`."""
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert err.endswith(f"cancelled{more}\n"), err
    assert not [word for word in ("Traceback", "rror", "Task", "Exception") if word in err], err
    return out, err.removesuffix(f"cancelled{more}\n")


@pytest.mark.parametrize("number", [TERM, HUP])
def test_while_an_answer_comes(node: LabNode, control: Control, engines: Engines, number: int) -> None:
    equip(control, engines, node)
    process = control.rbee_popen("infer", *endless(engines))
    assert process.stdout is not None
    assert process.stdout.read(20)
    ends(process, number)
    answer = control.rbee("infer", "--no-wait", *model(engines), "--max-tokens", "2", PROMPT)
    assert answer.returncode == 0, answer.stderr  # its only slot is free
    assert len(engines_on(node)) == 1


@pytest.mark.parametrize(("command", "number"), [("infer", HUP), ("workers start", TERM)])
def test_while_a_worker_starts(
    node: LabNode, control: Control, engines: Engines, command: str, number: int
) -> None:
    python = hold(node, "load", str(engines.xllamacpp_python))
    control.inventory(node, every={"engine": "xllamacpp", "python": python})
    prompt = [PROMPT] if command == "infer" else []
    process = control.rbee_popen(*command.split(), *model(engines), *prompt)
    wait_for("load", node, process)
    out, err = ends(process, number)
    assert out == ""
    (worker,) = workers(control)
    assert f"worker {worker['id']} stays on {node.name}: rbee workers stop {worker['id']}" in err
    node.write("go", "")
    eventually(lambda: workers(control)[0]["state"] == "idle", within=PATIENCE, why="it went on to load")


def arrived(node: LabNode) -> int:
    """Bytes of a file that is not there whole."""
    return sum(part.stat().st_size for part in node.outside(f"{STORE}/.incoming-{node.uid}").glob("*.part"))


def test_while_a_file_is_sent(node: LabNode, control: Control) -> None:
    control.inventory(node)
    process = control.rbee_popen("models", "push", str(a_model(control, size=96 * MIB)))
    eventually(lambda: arrived(node) > MIB, within=30, why="it is on its way")
    assert ends(process, TERM, GOES_ON)[0] == ""
    eventually(lambda: not node.processes(), within=10, why="nobody waits for the rest")
    assert MIB < arrived(node) < 96 * MIB, "what is there stays for the next time"


def test_while_a_file_is_copied(make_node: Callable[..., LabNode], control: Control) -> None:
    source, target = make_node(), make_node()
    control.inventory(source, target)
    rbee(control, "push", str(a_model(control, size=256 * MIB)), "--node", source.name)
    process = control.rbee_popen("models", "copy", "tiny", "--from", source.name, "--to", target.name)
    eventually(lambda: arrived(target) > MIB, within=30, why="it goes")
    ends(process, TERM, GOES_ON)
    eventually(lambda: not source.processes() + target.processes(), within=10, why="nobody waits any more")
    assert MIB < arrived(target) < 256 * MIB, "it did not go on to its end"


def test_while_a_node_fetches(node: LabNode, control: Control) -> None:
    """A hangup lets it go on: test_pull.py."""
    with hub_for(node, control) as hub:
        hub.faults.append(Fault("pause", 2**18))
        process = control.rbee_popen("models", "pull", REF)
        eventually(lambda: hub.bytes_sent == 2**18, within=30, why="bytes come")
        assert "stopped" in ends(process, TERM)[1]
        assert not [one for one in node.processes() if "job.sh" in " ".join(one.argv)]
        assert len(parts(node)) == 1


@pytest.mark.parametrize("number", [TERM, HUP])
def test_while_nodes_are_watched(node: LabNode, control: Control, number: int) -> None:
    control.inventory(node)
    process = control.rbee_popen("nodes", "status", "--watch", "--json")
    assert process.stdout is not None
    assert node.name in process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert '"CANCELLED"' in out.splitlines()[-1]
    eventually(lambda: not node.processes(), within=10, why="nobody asks the node any more")


def test_a_tunnel(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    worker = control.rbee("workers", "start", *model(engines), check=True).stdout.strip()
    process = control.rbee_popen("tunnel", worker, "--port", "0")
    assert process.stdout is not None
    curl = shlex.split(process.stdout.readline() and process.stdout.readline())
    header = Path(next(word for word in curl if word.startswith("@/"))[1:])
    assert header.exists()
    ends(process, HUP)
    assert not header.exists(), "the key is gone with it"
    assert len(engines_on(node)) == 1


def test_while_a_stop_waits_for_an_answer(node: LabNode, control: Control, engines: Engines) -> None:
    equip(control, engines, node)
    answering = control.rbee_popen("infer", *endless(engines))
    assert answering.stdout is not None
    assert answering.stdout.read(20)
    process = control.rbee_popen("workers", "stop", "--all")
    eventually(lambda: workers(control)[0]["state"] == "stopping", within=20, why="it drains")
    ends(process, TERM)
    answering.send_signal(TERM)
    answering.communicate(timeout=20)
    eventually(lambda: not engines_on(node), within=20, why="the node ends it by itself")
