"""What known_hosts may hold, and what `rbee nodes trust` writes there, over real sshd, beside ssh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from nodes.keys import fingerprint, host_key, new_key, reached
from nodes.test_reaching import unreachable

from nodekit import Control, LabNode
from nodekit.faults import reconfigure_sshd


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_server_that_lost_the_known_type_of_key_is_a_changed_one(
    node: LabNode, control: Control, kind: str
) -> None:
    control.inventory(node, trust=False)
    control.known_hosts.write_text(f"{node.address} {new_key(control.home / 'old', kind)}\n")
    error = unreachable(control, node)
    assert error["code"] == "HOST_KEY_CHANGED"
    assert error["details"]["key_type"] == "ssh-ed25519"
    assert error["details"]["fingerprint"] != error["details"]["known_fingerprint"]


def test_an_authority_in_known_hosts(make_node: Callable[..., LabNode], control: Control) -> None:
    authority = control.home / "authority"
    public = new_key(authority)
    plain = make_node()
    signed = make_node(sshd_options={"HostCertificate": "/tmp/host-cert.pub"})
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "it", "-h", "-n", signed.address]
    subprocess.run([*sign, signed.directory / "host_key.pub"], check=True)
    signed.outside("/tmp/host-cert.pub").write_text((signed.directory / "host_key-cert.pub").read_text())
    signed.kill_sshd()
    signed.start_sshd()
    control.inventory(plain, signed, trust=False)
    unknown = unreachable(control, signed)
    assert unknown["code"] == "HOST_KEY_UNKNOWN"
    assert unknown["details"]["fingerprint"], "of its plain key, which can be compared and trusted"
    control.known_hosts.write_text(f"@cert-authority * {public}\n")
    assert reached(control, signed)
    assert unreachable(control, plain)["code"] == "HOST_KEY_UNKNOWN"
    control.known_hosts.write_text(f"{plain.address} {host_key(plain)}\n@cert-authority * {public}\n")
    assert reached(control, plain)


def test_a_revoked_key_is_called_revoked_and_stays_so(node: LabNode, control: Control) -> None:
    control.inventory(node)
    with control.known_hosts.open("a") as file:
        file.write(f"@revoked * {host_key(node)}\n")
    error = unreachable(control, node)
    assert error["code"] == "HOST_KEY_CHANGED"
    assert "revoked" in error["message"]
    assert error["details"]["line"] == 2
    assert "ssh-keygen -R" not in (error["hint"] or "")


@pytest.mark.parametrize(
    "line",
    [
        "{host} {key} Jürgen's machine",
        "10.* {key}",
        "nothing,{host},other {key}",
        "\t {host}\t{key}\t\r",
        "|1|bad|hash ssh-ed25519 AAAA\n@revoked\nx\x00y\n{host} {key}",
    ],
)
def test_lines_of_known_hosts_that_ssh_reads(node: LabNode, control: Control, line: str) -> None:
    control.inventory(node, trust=False)
    control.known_hosts.write_text(line.format(host=node.address, key=host_key(node)) + "\n")
    assert reached(control, node)


def test_a_negated_pattern_keeps_a_host_out(node: LabNode, control: Control) -> None:
    control.inventory(node, trust=False)
    control.known_hosts.write_text(f"10.*,!{node.address} {host_key(node)}\n")
    assert unreachable(control, node)["code"] == "HOST_KEY_UNKNOWN"


def trusted(control: Control, name: str, node: LabNode) -> subprocess.CompletedProcess[str]:
    """`rbee nodes trust`, by somebody who has the right fingerprint at hand."""
    return control.rbee("nodes", "trust", name, "--yes", "--fingerprint", fingerprint(node))


RELAY = """
import os, socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        there.sendall(data)
threading.Thread(target=up, daemon=True).start()
while data := there.recv(65536):
    os.write(1, data)
"""


@pytest.mark.parametrize(
    ("line", "entry"),
    [("Port 22", "node-one.example"), ("Port 2222", "[node-one.example]:2222"), ("HostKeyAlias One", "one")],
)
def test_the_name_of_a_host_key_is_the_one_that_ssh_looks_for(
    node: LabNode, control: Control, line: str, entry: str
) -> None:
    relay = control.home / "relay.py"
    relay.write_text(RELAY)
    control.ssh_config.write_text(
        f"Host *\n  {line}\n  User {node.user}\n  HashKnownHosts no\n"
        f"  ProxyCommand {sys.executable} {relay} {node.address} {node.port}\n"
    )
    control.inventory(nodes_also={"one": {"host": "Node-One.Example"}})
    assert trusted(control, "one", node).returncode == 0
    assert control.known_hosts.read_text().split()[0] == entry
    assert reached(control, "one")
    settings = ("BatchMode=yes", f"UserKnownHostsFile={control.known_hosts}")
    options = [word for setting in settings for word in ("-o", setting)]
    options += ["-F", str(control.ssh_config), "-i", str(control.home / ".ssh/id_ed25519")]
    ssh = subprocess.run(["ssh", *options, "Node-One.Example", "true"], env=control.env, check=False)
    assert ssh.returncode == 0
    control.known_hosts.write_text(control.known_hosts.read_text().replace("one", "ONE"))
    assert reached(control, "one"), "known_hosts knows no upper case"


def test_trust_writes_where_ssh_config_says(node: LabNode, control: Control) -> None:
    control.inventory(node, trust=False)
    control.ssh_config.write_text("Host *\n  UserKnownHostsFile %d/.ssh/known/%k ${HOME}/.ssh/also\n")
    assert trusted(control, node.name, node).returncode == 0
    assert (control.home / f".ssh/known/{node.address}").read_text().endswith(f"{host_key(node)}\n")
    assert reached(control, node)
    control.ssh_config.write_text("Host *\n  GlobalKnownHostsFile ~/.ssh/everybodys\n")
    assert trusted(control, node.name, node).returncode == 0
    assert not (control.home / ".ssh/everybodys").exists()
    assert host_key(node) in control.known_hosts.read_text()


@pytest.mark.parametrize("place", ["/dev/null", "none"])
def test_trust_does_not_pretend(node: LabNode, control: Control, place: str) -> None:
    control.inventory(node, trust=False)
    control.ssh_config.write_text(f"Host *\n  UserKnownHostsFile {place}\n")
    answer = trusted(control, node.name, node)
    assert answer.returncode == 2
    assert "UserKnownHostsFile" in answer.stderr


def test_trust_with_lines_about_other_keys(node: LabNode, control: Control) -> None:
    control.inventory(node, trust=False)
    control.known_hosts.write_text(f"@revoked * {new_key(control.home / 'other')}\n")
    assert trusted(control, node.name, node).returncode == 0
    assert reached(control, node)
    control.known_hosts.write_text(f"@revoked * {host_key(node)}\n")
    answer = trusted(control, node.name, node)
    assert answer.returncode == 1
    assert "revoked" in answer.stderr


def test_trust_looks_for_the_type_of_key_that_is_known(node: LabNode, control: Control) -> None:
    public = new_key(node.directory / "second", "ecdsa")
    reconfigure_sshd(node, f"HostKey {node.directory}/second")
    control.inventory(node, trust=False)
    control.known_hosts.write_text(f"{node.address} {public}\n")
    assert reached(control, node)
    again = control.rbee("nodes", "trust", node.name)
    assert (again.returncode, again.stderr.strip()) == (0, "its key is in known_hosts already")


def test_another_port_of_a_known_host_is_another_host(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    """A container's sshd beside the machine's own."""
    node = make_node()
    reconfigure_sshd(node, "Port 2222")
    control.inventory(node, every={"port": 2222}, trust=False)
    control.known_hosts.write_text(f"{node.address} {new_key(control.home / 'other')}\n")
    assert unreachable(control, node)["code"] == "HOST_KEY_UNKNOWN"
    assert trusted(control, node.name, node).returncode == 0
    assert reached(control, node)
    assert len(control.known_hosts.read_text().splitlines()) == 2


def test_a_host_whose_name_ssh_config_completes(node: LabNode, control: Control) -> None:
    """The key stands under the completed name: here another way to write the address, which needs no DNS."""
    first, second, third, fourth = node.address.split(".")
    domain = f"{second}.{int(third) * 256 + int(fourth)}"
    control.ssh_config.write_text(
        f"CanonicalizeHostname always\nCanonicalDomains {domain}\nHost *\n  User {node.user}\n"
    )
    control.inventory(nodes_also={"short": {"host": first}})
    control.known_hosts.write_text(f"{first}.{domain} {host_key(node)}\n")
    assert reached(control, "short")
