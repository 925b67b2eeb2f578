"""The way to a node, over real sshd: keys, host keys, jump hosts, ssh_config, login shells."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from nodekit import Control, LabNode


def error_of(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one error that `--json` printed."""
    return dict(json.loads(answer.stdout.splitlines()[-1])["error"])


def unreachable(control: Control, node: LabNode, **options: Any) -> dict[str, Any]:
    """What stands in the way to a node."""
    answer = control.rbee("--json", "workers", "stop", "--node", node.name, **options)
    assert answer.returncode in (1, 2), answer.stderr
    said = json.loads(answer.stdout.splitlines()[-1])
    error = said.get("error") or said["unreachable"][0]["error"]
    return dict(error)


@pytest.mark.parametrize(
    ("shell", "rc"),
    [
        ("/usr/bin/fish", "echo a banner\n"),
        ("/bin/csh", None),
        ("busybox", None),
    ],
    ids=["fish-banner", "csh", "busybox"],
)
def test_less_common_login_shells_work(
    make_node: Callable[..., LabNode], control: Control, shell: str, rc: str | None
) -> None:
    node = make_node(shell=shell, rc=rc)
    control.inventory(node)
    answer = control.rbee("workers", "list", "--node", node.name)
    assert (answer.returncode, answer.stdout) == (0, ""), answer.stderr


def test_an_unknown_host_key_is_refused_and_trust_lets_it_in(node: LabNode, control: Control) -> None:
    control.inventory(node, trust=False)
    error = unreachable(control, node)
    assert error["code"] == "HOST_KEY_UNKNOWN"
    assert error["details"]["fingerprint"].startswith("SHA256:")
    assert error["hint"] == f"rbee nodes trust {node.name}"
    assert "Accepted" not in node.sshd_log
    wrong = control.rbee("nodes", "trust", node.name, "--yes", "--fingerprint", "SHA256:wrong")
    assert wrong.returncode != 0
    assert not control.known_hosts.exists() or control.known_hosts.read_text() == ""
    right = control.rbee(
        "nodes", "trust", node.name, "--yes", "--fingerprint", error["details"]["fingerprint"]
    )
    assert right.returncode == 0, right.stderr
    assert control.rbee("workers", "list", "--node", node.name).returncode == 0
    # and OpenSSH reads the line alike
    found = subprocess.run(
        [
            "ssh-keygen",
            "-F",
            f"[{node.address}]:{node.port}" if node.port != 22 else node.address,
            "-f",
            control.known_hosts,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "found" in found.stdout


def test_a_changed_host_key_is_refused_with_the_line_to_remove(node: LabNode, control: Control) -> None:
    control.inventory(node)
    assert control.rbee("workers", "list").returncode == 0
    node.renew_host_key()
    error = unreachable(control, node)
    assert error["code"] == "HOST_KEY_CHANGED"
    assert error["details"]["line"] == 1
    assert error["details"]["known_fingerprint"] != error["details"]["fingerprint"]
    command = error["hint"].partition("ssh-keygen")[2].partition("&&")[0]
    subprocess.run(f"ssh-keygen{command}", shell=True, check=True, capture_output=True)
    assert unreachable(control, node)["code"] == "HOST_KEY_UNKNOWN"


def test_hashed_known_hosts_are_read_and_written(node: LabNode, control: Control) -> None:
    control.inventory(node)
    subprocess.run(["ssh-keygen", "-H", "-f", control.known_hosts], check=True, capture_output=True)
    assert node.address not in control.known_hosts.read_text()
    assert control.rbee("workers", "list").returncode == 0


def test_a_malformed_known_hosts_line_is_no_reason_to_fail(node: LabNode, control: Control) -> None:
    control.inventory(node)
    with control.known_hosts.open("a") as file:
        file.write("this is not a line of known_hosts\n@what ever\n")
    assert control.rbee("workers", "list").returncode == 0


def test_no_key_accepted_says_what_was_tried_and_never_asks(lab: Any, node: LabNode) -> None:
    control = lab.control(f"keyless{next(lab.names)}", key=False)
    control.inventory(node)
    ssh = control.home / ".ssh"
    for name, passphrase in (("id_ed25519", "secret"), ("id_rsa", "")):
        kind = ["-t", "ed25519"] if "ed25519" in name else ["-t", "rsa", "-b", "2048"]
        subprocess.run(["ssh-keygen", "-q", *kind, "-N", passphrase, "-f", ssh / name], check=True)
    error = unreachable(control, node)
    assert error["code"] == "AUTH_FAILED"
    assert error["details"]["tried"] == [str(ssh / "id_rsa")]
    assert [(s["path"], s["why"][:9]) for s in error["details"]["skipped"]] == [
        (str(ssh / "id_ed25519"), "encrypted")
    ]
    assert error["hint"] == f"ssh-add {ssh / 'id_ed25519'}"
    assert node.user in error["message"]
    lab.remove(control)


def test_whose_name_was_tried_is_said_where_nobody_gave_one(node: LabNode, control: Control) -> None:
    table = {"host": node.address, "port": node.port}
    control.inventory(nodes_also={node.name: table})
    control.trust(node)
    error = unreachable(control, node)
    assert error["code"] == "AUTH_FAILED"
    assert "neither the inventory nor ~/.ssh/config names a user for it" in error["message"]
    control.inventory(nodes_also={node.name: table | {"user": "nobody"}})
    assert "names a user" not in unreachable(control, node)["message"]


def test_a_key_that_others_can_read_is_skipped_as_ssh_does(node: LabNode, control: Control) -> None:
    control.inventory(node)
    (control.home / ".ssh/id_ed25519").chmod(0o644)
    error = unreachable(control, node)
    assert error["code"] == "AUTH_FAILED"
    assert "0644" in error["details"]["skipped"][0]["why"]


def test_a_key_in_the_agent_opens_the_node(node: LabNode, control: Control) -> None:
    control.inventory(node)
    key = control.home / ".ssh/id_ed25519"
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True, env=control.env)
    variables = dict(part.split("=", 1) for part in agent.stdout.replace("\n", "").split(";") if "=" in part)
    try:
        env = control.env | {"SSH_AUTH_SOCK": variables["SSH_AUTH_SOCK"]}
        subprocess.run(["ssh-add", "-q", key], check=True, env=env)
        key.unlink()
        (control.home / ".ssh/id_ed25519.pub").unlink()
        assert unreachable(control, node)["code"] == "AUTH_FAILED"
        assert control.rbee("workers", "list", env=env).returncode == 0
        # And stays here: no node is lent it.
        lent = control.rbee("nodes", "run", "--", "sh", "-c", "echo ${SSH_AUTH_SOCK:-none}", env=env)
        assert lent.stdout.split()[-1] == "none", lent
    finally:
        subprocess.run(["kill", variables["SSH_AGENT_PID"]], check=False)


def test_a_missing_identity_file_is_said_before_any_connection(node: LabNode, control: Control) -> None:
    control.inventory(node, every={"identity_file": "/nowhere/id"})
    node.kill_sshd()
    assert unreachable(control, node)["code"] == "KEY_NOT_FOUND"


def test_a_refused_port_is_tried_three_times(node: LabNode, control: Control) -> None:
    control.inventory(node)
    node.kill_sshd()
    error = unreachable(control, node)
    assert error["code"] == "NODE_UNREACHABLE"
    assert len(error["details"]["attempts"]) == 3
    assert error["details"]["host"] == node.address


def test_a_silent_node_costs_its_timeout(node: LabNode, control: Control) -> None:
    control.inventory(node, text="[timeouts]\nconnect = 1\nconnect_tries = 1\n")
    node.cut()
    began = time.monotonic()
    error = unreachable(control, node)
    assert error["code"] == "NODE_UNREACHABLE"
    assert time.monotonic() - began < 8


def test_a_login_without_a_shell_is_told(make_node: Callable[..., LabNode], control: Control) -> None:
    if shutil.which("nologin") is None and not shutil.which("/usr/sbin/nologin"):
        pytest.skip("nologin is not installed: apt-get install login")
    node = make_node(shell="/usr/sbin/nologin")
    control.inventory(node)
    error = unreachable(control, node)
    assert error["code"] == "SHELL_UNUSABLE"
    assert "not available" in error["details"]["output"]


def test_one_session_at_a_time_is_enough(make_node: Callable[..., LabNode], control: Control) -> None:
    node = make_node(sshd_options={"MaxSessions": 1})
    control.inventory(node)
    assert control.rbee("nodes", "status", "--json").returncode == 0


@pytest.mark.parametrize("way", ["inventory", "ssh_config"])
def test_through_jump_hosts(make_node: Callable[..., LabNode], control: Control, way: str) -> None:
    first = make_node()
    second = make_node(reachable_from=first)
    last = make_node(reachable_from=second)
    control.trust(first, second, last)
    assert control.rbee("workers", "list").returncode == 0
    blocks = {
        n.name: f"Host {n.name}\n  HostName {n.address}\n  Port {n.port}\n  User {n.user}\n"
        for n in (first, second, last)
    }
    if way == "inventory":
        control.inventory(
            first,
            second,
            last,
            nodes_also={second.name: {"jump": first.name}, last.name: {"jump": [first.name, second.name]}},
            trust=False,
        )
        target = last.name
    else:
        control.ssh_config.write_text(
            blocks[first.name]
            + blocks[second.name]
            + f"  ProxyJump {first.name}\n"
            + blocks[last.name]
            + f"  ProxyJump {second.name}\n"
        )
        control.inventory(nodes_also={"far": {"host": last.name}})
        target = "far"
    answer = control.rbee("workers", "list", "--node", target)
    assert answer.returncode == 0, answer.stderr


def test_a_jump_host_that_fails_is_named(make_node: Callable[..., LabNode], control: Control) -> None:
    hop, node = make_node(), make_node()
    control.inventory(
        hop, node, nodes_also={node.name: {"jump": hop.name}}, text="[timeouts]\nconnect_tries = 1\n"
    )
    hop.kill_sshd()
    error = unreachable(control, node)
    assert (error["code"], error["details"]["hop"]) == ("JUMP_FAILED", hop.name)


def test_a_jump_hosts_key_is_checked_too(make_node: Callable[..., LabNode], control: Control) -> None:
    hop, node = make_node(), make_node()
    control.inventory(hop, node, nodes_also={node.name: {"jump": hop.name}}, trust=False)
    control.trust(node)
    error = unreachable(control, node)
    assert (error["code"], error["details"]["cause"]) == ("JUMP_FAILED", "HOST_KEY_UNKNOWN")
    assert error["hint"] == f"rbee nodes trust {hop.name}"
