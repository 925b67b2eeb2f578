"""Nodes that known_hosts has by their address alone, found without a connection."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from rbee_ssh.inventory import Node
from rbee_ssh.ssh import by_address, destination
from rbee_ssh.ssh.by_address import known_by_address

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIII9JMBdNwa0Rlp1NCFXbBYMg2VSQxBQM0s0oLYeTfWk"


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(destination, "SYSTEM_CONFIG", tmp_path / "system")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        "Host *\n  GlobalKnownHostsFile /dev/null\nHost alias\n  HostName gpu.lan\n  HostKeyAlias db\n"
        "Host behind\n  ProxyJump gate.lan\nHost program\n  ProxyCommand nc %h %p\n"
    )
    return tmp_path / ".ssh"


def told(ssh: Path, lines: str, node: Node, *others: Node) -> list[tuple[str, str, int, str]]:
    (ssh / "known_hosts").write_text(lines.replace("KEY", KEY))
    found = known_by_address({one.name: one for one in (node, *others)}, lambda host: ["fe80::7", "10.0.0.7"])
    return [(one.node, one.known_as, one.line, one.trust) for one in found]


@pytest.mark.parametrize(
    ("lines", "node", "expected"),
    [
        ("10.0.0.7 KEY", Node("n", "gpu.lan"), ("10.0.0.7", 1)),
        ("# old\nother,10.0.0.7 KEY", Node("n", "gpu.lan"), ("10.0.0.7", 2)),
        ("[10.0.0.7]:2222 KEY", Node("n", "gpu.lan", port=2222), ("[10.0.0.7]:2222", 1)),
        ("10.0.0.7 KEY", Node("n", "gpu.lan", port=2222), ("10.0.0.7", 1)),
        ("@cert-authority 10.* KEY", Node("n", "gpu.lan"), ("10.0.0.7", 1)),
        ("gpu.lan KEY\n10.0.0.7 KEY", Node("n", "alias"), ("10.0.0.7", 2)),
        ("[10.0.0.7]:2222 KEY", Node("n", "gpu.lan"), None),
        ("gpu.lan KEY\n10.0.0.7 KEY", Node("n", "gpu.lan"), None),
        ("gpu.lan KEY\n10.0.0.7 KEY", Node("n", "gpu.lan", port=2222), None),
        ("@cert-authority *.lan KEY\n10.0.0.7 KEY", Node("n", "gpu.lan"), None),
        ("10.0.0.7 KEY", Node("n", "10.0.0.7"), None),
        ("@revoked 10.0.0.7 KEY", Node("n", "gpu.lan"), None),
        ("10.0.0.7 KEY", Node("n", "program"), None),
        ("10.0.0.7 KEY", Node("n", "localhost"), None),
        ("", Node("n", "gpu.lan"), None),
    ],
)
def test_a_key_under_the_address_alone(
    ssh: Path, lines: str, node: Node, expected: tuple[str, int] | None
) -> None:
    assert told(ssh, lines, node) == ([("n", *expected, "rbee nodes trust n")] if expected else [])


def test_a_jump_host_is_told_and_what_is_behind_it_is_not(ssh: Path) -> None:
    (one,) = told(ssh, "10.0.0.7 KEY", Node("n", "behind", user="me"))
    assert one[:3] == ("n", "10.0.0.7", 1)
    assert one[3].startswith("ssh ") and "@gate.lan " in one[3]
    gate = Node("gate", "gate.lan")
    found = told(ssh, "10.0.0.7 KEY", Node("n", "gpu.lan", jump=("gate",)), gate)
    assert [one[0] for one in found] == ["gate"], "once, by its own name"


def test_a_name_server_that_does_not_answer_is_not_waited_for(
    ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_address, "PATIENCE", 0.1)
    gone = threading.Event()

    def resolve(host: str) -> list[str]:
        gone.wait(30)
        return []

    began = time.monotonic()
    assert known_by_address({"n": Node("n", "gpu.lan")}, resolve) == []
    assert time.monotonic() - began < 10
    gone.set()


def test_a_fault_of_ssh_config_is_for_another_time(ssh: Path) -> None:
    (ssh / "config").write_text("Port none\n")
    assert told(ssh, "10.0.0.7 KEY", Node("n", "gpu.lan")) == []
