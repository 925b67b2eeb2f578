"""The checks of `nodes check`, on recorded machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import (
    AuthFailed,
    ConnectionLost,
    HostKeyChanged,
    JumpFailed,
    KeyNotFound,
    NodeUnreachable,
    RbeeError,
    SessionLimit,
    ShellUnusable,
)
from rbee_ssh.inventory import Node
from rbee_ssh.node.checks import NAMES, Check, Forwarding, NodeObservation, checks, clock_ahead, works
from rbee_ssh.node.engine_facts import PythonFound
from rbee_ssh.node.facts import Facts, parse_facts
from rbee_ssh.node.gpus import Gpu

FIXTURES = Path(__file__).with_name("fixtures")
NODE = Node("gpu1", "10.0.0.1")
OPEN = Forwarding(unix=True, tcp=True, seconds=0.01)
GIB = 1024**3


def seen(machine: str = "ubuntu-nvidia", *, node: Node = NODE, **also: Any) -> NodeObservation:
    facts = parse_facts((FIXTURES / f"{machine}.txt").read_text())
    observed = NodeObservation(node, "gpu1", shell=0.01, forwarding=OPEN, clock=0.0, facts=facts)
    return replace(observed, **also)


def found(*args: Any, **also: Any) -> dict[str, Check]:
    return {check.name: check for check in checks(seen(*args, **also))}


def about(**facts: Any) -> dict[str, Check]:
    """The checks of a machine that is known by these facts alone."""
    return {check.name: check for check in checks(seen(facts=replace(Facts(), **facts)))}


def states(one: NodeObservation) -> str:
    letters = {"ok": "+", "failed": "x", "warning": "!", "unknown": "?", "not_tried": "."}
    return "".join(letters[check.state] for check in checks(one))


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("debian-dash", "++++++++?+++++"),
        ("debian-busybox", "++++++++?+++++"),
        ("debian-auto", "++++++++?++?++"),
        ("debian-memory-limit", "++++++++?!+?++"),
        ("macos-apple-silicon", "+++++++++++?++"),
        ("ubuntu-nvidia", "+++++++++++?++"),
        ("ubuntu-nvidia-cpu-engine", "+++++++!!+++!+"),
        ("ubuntu-nvidia-no-driver", "+++++++x!++!++"),
        ("ubuntu-rocm", "+++++++++++?++"),
        ("dgx-spark", "+++++++x?++?++"),
    ],
)
def test_a_machine(machine: str, expected: str) -> None:
    assert states(seen(machine)) == expected


@pytest.mark.parametrize(
    ("error", "shell", "expected"),
    [
        (NodeUnreachable("no"), None, "x............."),
        (JumpFailed("no"), None, "x............."),
        (HostKeyChanged("no"), None, "+x............"),
        (AuthFailed("no"), None, "++x..........."),
        (KeyNotFound("no"), None, "..x..........."),
        (ShellUnusable("no"), None, "+++x.........."),
        (SessionLimit("no"), None, "+++x.........."),
        (ConnectionLost("no"), 0.1, "++++++x......."),
    ],
)
def test_behind_an_error_nothing_is_tried(error: RbeeError, shell: float | None, expected: str) -> None:
    error.hint = "do it"
    one = NodeObservation(NODE, shell=shell, forwarding=OPEN if shell else Forwarding(), error=error)
    assert states(one) == expected
    (failed,) = (check for check in checks(one) if check.state == "failed")
    assert (failed.detail, failed.fix) == ("no", "do it")
    assert not works(checks(one))
    assert tuple(check.name for check in checks(one)) == NAMES


@pytest.mark.parametrize(
    ("listen", "unix", "tcp", "state", "fix"),
    [
        ("unix", False, True, "failed", 'listen = "tcp" for gpu1 in the inventory, or Allow'),
        ("unix", False, False, "failed", "AllowStreamLocalForwarding yes in its sshd_config"),
        ("tcp", True, False, "failed", "AllowTcpForwarding yes in its sshd_config"),
        ("tcp", False, True, "ok", None),
        ("unix", True, False, "ok", None),
        ("unix", None, None, "unknown", None),
    ],
)
def test_channels(listen: str, unix: bool | None, tcp: bool | None, state: str, fix: str | None) -> None:
    check = found(node=replace(NODE, listen=listen), forwarding=Forwarding(unix, tcp))["forwarding"]
    assert check.state == state
    assert (check.fix or "").startswith(fix or "") and bool(check.fix) == bool(fix)


def test_a_slow_way() -> None:
    assert found(forwarding=Forwarding(True, True, 0.9))["latency"].state == "warning"
    assert found(forwarding=Forwarding())["latency"].state == "unknown"


def test_no_engine() -> None:
    check = about(os="Linux")["engine"]
    assert (check.state, check.fix) == ("failed", "rbee nodes setup gpu1")
    broken = EngineFound("xllamacpp", "/venv/bin/python", "1", problem="it ended with SIGILL")
    check = about(engines=(broken,))["engine"]
    assert (check.state, check.fix) == ("failed", "rbee nodes setup gpu1")
    assert "SIGILL" in check.detail
    check = about(engines=(EngineFound("llama-server", "/x", "b1"), broken))["engine"]
    assert check.state == "warning"
    assert "/venv/bin/python" in check.detail


def test_what_the_inventory_asks_for_and_the_node_has_not() -> None:
    engines = (EngineFound("llama-server", "/x", "b1", backends=("cpu",)),)
    one = found(node=replace(NODE, backend="cuda"), facts=replace(Facts(), engines=engines))
    assert (one["engine"].state, one["engine"].fix) == (
        "failed",
        "--backend cpu runs the model on the CPU",
    )
    gpu = Gpu(0, "RTX", "nvidia", "cuda", 24 * GIB, GIB, "570")
    one = found(node=replace(NODE, backend="cuda"), facts=replace(Facts(), engines=engines, gpus=(gpu,)))
    assert one["engine"].fix == "rbee nodes setup gpu1"
    one = found(node=replace(NODE, backend="cpu"), facts=replace(Facts(), engines=engines, gpus=(gpu,)))
    assert one["gpu"].state == "ok"
    one = found(node=replace(NODE, device="3"))
    assert (one["engine"].state, one["gpu"].state) == ("failed", "unknown")


def test_a_place_for_models_that_cannot_be_made() -> None:
    told = about(models_dir="/srv/models", models_closed="/srv", disk_free_bytes=2**40)["disk"]
    assert (told.state, "cannot be written: /srv" in told.detail) == ("failed", True)


def test_little_memory_and_disk() -> None:
    assert about(ram_free_bytes=GIB // 2, ram_total_bytes=GIB)["ram"].state == "warning"
    for free, state in ((GIB // 1024, "failed"), (GIB, "warning"), (100 * GIB, "ok"), (None, "unknown")):
        assert about(disk_free_bytes=free)["disk"].state == state


def test_a_python_without_environments() -> None:
    check = about(python=PythonFound("/usr/bin/python3", "3.11", False))["venv"]
    assert (check.state, check.fix) == ("warning", "ssh gpu1 'sudo apt-get install python3-venv'")


def test_processes_that_end_at_logout() -> None:
    text = "systemd\tyes\nlinger\tno\nkill_user_processes\tb true\nuser\tada\nfacts\tend\n"
    check = {check.name: check for check in checks(seen(facts=parse_facts(text)))}["logout"]
    assert (check.state, check.fix) == ("warning", "ssh gpu1 'loginctl enable-linger ada'")


def test_no_place_for_records() -> None:
    check = found(problem="cannot make /home/x")["state_dir"]
    assert (check.state, check.detail) == ("failed", "cannot make /home/x")


@pytest.mark.parametrize(
    ("before", "after", "clock", "ahead"),
    [
        (100.2, 100.4, 100.0, 0.0),
        (100.2, 130.0, 110.0, 0.0),
        (100.9, 101.1, 100.0, 0.0),
        (100.0, 101.0, 161.0, 60.0),
        (100.0, 105.0, 40.0, -59.0),
        (100.0, 105.0, None, None),
    ],
)
def test_clocks(before: float, after: float, clock: float | None, ahead: float | None) -> None:
    assert clock_ahead(before, after, clock) == ahead
    check = found(clock=ahead)["clock"]
    assert check.state == ("unknown" if ahead is None else "warning" if abs(ahead) > 30 else "ok")
