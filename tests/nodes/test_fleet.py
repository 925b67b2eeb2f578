"""Many nodes at a glance, over real sshd: early rows, a watch, a reboot, a jump host."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nodes.keys import fingerprint

from nodekit import Control, LabNode


def states(seen: dict[str, Any]) -> dict[str, str]:
    return {node["name"]: node["state"] for node in seen["nodes"]}


def logins(node: LabNode) -> int:
    return node.sshd_log.count("Accepted publickey")


def looks(watching: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """The objects that `--watch --json` prints."""
    assert watching.stdout is not None
    for line in watching.stdout:
        yield json.loads(line)
    raise AssertionError(f"it ended: {watching.stderr.read() if watching.stderr else ''}")


def until(seen: Iterator[dict[str, Any]], holds: Callable[[dict[str, str]], bool]) -> dict[str, Any]:
    for _, one in zip(range(30), seen, strict=False):
        if holds(states(one)):
            return one
    raise AssertionError("not within 30 looks")


def test_rows_come_as_nodes_answer_and_a_dead_one_is_tried_once(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    dead, first, second = make_node(), make_node(), make_node()
    control.inventory(dead, first, second, text="[timeouts]\nconnect = 10\n")
    dead.cut()
    asking = control.rbee_popen("nodes", "status")
    assert asking.stdout is not None
    title, *early = (asking.stdout.readline() for _ in range(3))
    assert asking.poll() is None, "the others wait for the dead one"
    assert title.split()[:2] == ["NAME", "STATE"]
    assert {row.split()[0]: row.split()[1] for row in early} == {first.name: "up", second.name: "up"}
    rest, reporter = asking.communicate(timeout=30)
    assert rest.splitlines() == [
        f"{dead.name.ljust(len(title.split('STATE')[0]) - 2)}  down   no answer in time"
    ]
    assert asking.returncode == 0
    assert reporter.startswith(f"warning: node '{dead.name}' cannot be reached")
    assert "\x1b" not in "".join((title, *early, rest, reporter))
    answer = control.rbee("--json", "nodes", "status", "--tag", "gpu")
    assert answer.returncode == 2


def test_a_watch_keeps_its_connections_and_waits_for_who_reboots(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    steady, restless = make_node(), make_node()
    control.inventory(steady, restless, text="[timeouts]\nconnect = 5\n")
    watching = control.rbee_popen("nodes", "status", "--watch", "--json")
    seen = looks(watching)
    until(seen, lambda now: set(now.values()) == {"up"})
    before = until(seen, lambda now: True)
    resident = memory(watching.pid)
    restless.power_off(silent=True)
    down = until(seen, lambda now: now[restless.name] == "down")
    assert states(down)[steady.name] == "up"
    restless.power_on()
    after = until(seen, lambda now: now[restless.name] == "up")
    assert after["time"] > before["time"]
    assert (logins(steady), logins(restless)) == (1, 2)
    assert memory(watching.pid) < resident + 8_000
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=20)
    assert watching.returncode == 130


def memory(pid: int) -> int:
    """Resident KiB of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_host_keys_are_fetched_over_one_login_at_the_jump_host(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    hop = make_node()
    node = make_node(reachable_from=hop, sshd_options={"MaxStartups": 100})
    names = [f"behind{number:02}" for number in range(20)]
    control.inventory(hop)
    control.ssh_config.write_text(
        f"Host gate\n  HostName {hop.address}\n  User {hop.user}\n  Port {hop.port}\n"
        f"Host behind*\n  HostName {node.address}\n  User {node.user}\n  Port {node.port}\n  ProxyJump gate\n"
    )
    given = ["--fingerprint", fingerprint(node)]
    answer = control.rbee("--json", "nodes", "import", *names, *given)
    seen = json.loads(answer.stdout)
    assert [added["name"] for added in seen["added"]] == names, answer.stdout + answer.stderr
    assert (logins(hop), logins(node)) == (3, 20), "to try them, for their keys, to try again"


def test_a_jump_host_is_logged_in_to_once_and_never_flooded(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    hop = make_node(sshd_options={"MaxStartups": 2})
    # Where sshd begins to drop by default. It counts a login for a moment longer than we do.
    node = make_node(reachable_from=hop, sshd_options={"MaxStartups": 10})
    where = {"host": node.address, "port": node.port, "user": node.user, "jump": hop.name}
    names = [f"behind{number:02}" for number in range(20)]
    control.inventory(hop, nodes_also=dict.fromkeys(names, where))
    control.trust(node)
    seen = json.loads(control.rbee("--json", "nodes", "status", *names, check=True).stdout)
    assert set(states(seen).values()) == {"up"}, seen
    assert (logins(hop), logins(node)) == (1, 20)
    assert "MaxStartups" not in node.sshd_log + hop.sshd_log
    # Where there is no jump host to tell, the server drops what is too much, and is asked again.
    where = {"host": hop.address, "port": hop.port, "user": hop.user}
    names = [f"same{number}" for number in range(5)]
    control.inventory(nodes_also=dict.fromkeys(names, where))
    seen = json.loads(control.rbee("--json", "nodes", "status", check=True).stdout)
    assert set(states(seen).values()) == {"up"}, seen
