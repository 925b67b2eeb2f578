"""What known_hosts may hold, and what `rbee nodes trust` writes there, over real sshd, beside ssh."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from nodes.keys import fingerprint, host_key, new_key, reached
from nodes.test_reaching import unreachable

from nodekit import Control, LabNode
from nodekit.control import rbee_path
from nodekit.faults import reconfigure_sshd
from nodekit.running import run


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
    control.ssh_config.write_text(
        f"Host box\n  HostName {node.address}\n  UserKnownHostsFile {place}\n  StrictHostKeyChecking no\n"
    )
    control.inventory(nodes_also={"b": {"host": "box"}})
    answer = trusted(control, "b", node)
    assert answer.returncode == 2
    assert "UserKnownHostsFile" in answer.stderr
    assert "hint: ssh -G box | grep -i knownhosts" in answer.stderr
    assert ("whatever StrictHostKeyChecking says" in " ".join(answer.stderr.split())) == (place != "none")


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


def resolving(control: Control, name: str, address: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees this name in /etc/hosts."""
    hosts = control.home / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    inside = 'mount --bind "$0" /etc/hosts && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", inside, str(hosts), *command]
    return run(argv, env=control.env, cwd=control.work, check=False, timeout=60)


def state_of(answer: subprocess.CompletedProcess[str]) -> str:
    """What `nodes status --json` says of the only node: up, or why not."""
    node = json.loads(answer.stdout)["nodes"][0]
    return str(node["error"]["code"] if node["error"] else node["state"])


NAME = "gpu1.lan"
SSH = {"HOST_KEY_CHANGED": "HAS CHANGED", "HOST_KEY_UNKNOWN": "No ED25519 host key is known"}


@pytest.mark.parametrize(
    ("config", "lines", "expected"),
    [
        ("", "{named} {other}|{addressed} {key}", "HOST_KEY_CHANGED"),
        ("", "{addressed} {key}", "HOST_KEY_UNKNOWN"),
        ("", "{address} {key}", "HOST_KEY_UNKNOWN"),
        ("CheckHostIP yes", "{addressed} {key}", "HOST_KEY_UNKNOWN"),
        ("", "10.* {key}|[10.*]:2222 {key}", "HOST_KEY_UNKNOWN"),
        ("", "{address}/32 {key}", "HOST_KEY_UNKNOWN"),
        ("", "@cert-authority {named} {other}|{addressed} {key}", "HOST_KEY_UNKNOWN"),
        ("HostKeyAlias prod-db", "prod-db {other}|{addressed} {key}", "HOST_KEY_CHANGED"),
        ("HostKeyAlias prod-db", "{named} {key}|{addressed} {key}", "HOST_KEY_UNKNOWN"),
        ("HostKeyAlias prod-db", "[prod-db]:2222 {key}", "HOST_KEY_UNKNOWN"),
        ("HostKeyAlias {address}", "{address} {key}", "up"),
        ("HostKeyAlias prod-db", "prod-db {key}", "up"),
        ("HostName {address}", "{addressed} {key}", "up"),
        ("", "{addressed} {other}|{named} {key}", "up"),
        ("", "gpu1.lan {key}", "up"),
        ("", "*.lan {key}", "up"),
        ("", "[*.lan]:2222 {key}", "up"),
        ("", "*.lan,!gpu1.lan {key}", "HOST_KEY_UNKNOWN"),
        ("", "@cert-authority {named} {other}|gpu1.lan {key}", "up"),
        ("", "# SSH-2.0-x\r{named} {key}", "HOST_KEY_UNKNOWN"),
        ("", "# SSH-2.0-x\f{named} {key}", "HOST_KEY_UNKNOWN"),
        ("", "other {other} x\u2028{named} {key}", "HOST_KEY_UNKNOWN"),
        ("", "@revoked {named} {key}|gpu1.lan {key}", "HOST_KEY_CHANGED"),
        ("", "@revoked gpu1.lan {key}|gpu1.lan {key}", "HOST_KEY_CHANGED"),
    ],
)
def test_the_name_alone_decides_as_with_ssh(
    make_node: Callable[..., LabNode], control: Control, config: str, lines: str, expected: str
) -> None:
    node = make_node()
    reconfigure_sshd(node, "Port 2222")
    words = {
        "named": f"[{NAME}]:2222",
        "addressed": f"[{node.address}]:2222",
        "address": node.address,
        "key": host_key(node),
        "other": new_key(control.home / "other"),
    }
    control.known_hosts.write_bytes(lines.format(**words).replace("|", "\n").encode() + b"\n")
    control.ssh_config.write_text(
        f"Host {NAME}\n  Port 2222\n  User {node.user}\n  UserKnownHostsFile {control.known_hosts}\n"
        f"  StrictHostKeyChecking yes\n  GlobalKnownHostsFile /dev/null\n  {config.format(**words)}\n"
    )
    control.inventory(nodes_also={"g": {"host": NAME}})
    options = (
        "-F",
        str(control.ssh_config),
        "-i",
        str(control.home / ".ssh/id_ed25519"),
        "-o",
        "BatchMode=yes",
    )
    ssh = resolving(control, NAME, node.address, "ssh", *options, NAME, "true")
    assert (ssh.returncode == 0) == (expected == "up"), ssh.stderr
    if "@revoked" not in lines:
        assert SSH.get(expected, "") in ssh.stderr
    status = resolving(control, NAME, node.address, rbee_path(), "nodes", "status", "--json")
    assert state_of(status) == expected, status.stdout


def test_a_key_that_stands_under_the_address_is_told_and_can_be_trusted(
    node: LabNode, control: Control
) -> None:
    control.known_hosts.write_text(f"{node.address} {host_key(node)}\n")
    control.ssh_config.write_text("Host *\n  HashKnownHosts no\n")
    control.inventory(nodes_also={"g": {"host": NAME, "user": node.user, "port": node.port}})

    def rbee(*args: str) -> subprocess.CompletedProcess[str]:
        return resolving(control, NAME, node.address, rbee_path(), *args)

    error = json.loads(rbee("nodes", "status", "--json").stdout)["nodes"][0]["error"]
    assert (error["code"], error["hint"]) == ("HOST_KEY_UNKNOWN", "rbee nodes trust g")
    where = f"this very key is known as {node.address} ({control.known_hosts} line 1)"
    assert where in error["message"]
    assert (error["details"]["known_as"], error["details"]["line"]) == (node.address, 1)
    asked = rbee("nodes", "trust", "g")
    assert asked.returncode == 1
    assert where in " ".join(asked.stderr.split())
    done = rbee("nodes", "trust", "g", "--fingerprint", fingerprint(node))
    assert done.returncode == 0, done.stderr
    assert [row.split()[0] for row in control.known_hosts.read_text().splitlines()] == [node.address, NAME]
    assert state_of(rbee("nodes", "status", "--json")) == "up"


def test_what_is_shown_first_is_what_ssh_shows(make_node: Callable[..., LabNode], control: Control) -> None:
    node = make_node()
    for kind in ("rsa", "ecdsa"):
        new_key(node.directory / kind, kind)
    reconfigure_sshd(node, *(f"HostKey {node.directory}/{kind}" for kind in ("rsa", "ecdsa")))
    control.inventory(node, trust=False)
    for config in ("", "HostKeyAlgorithms +ssh-rsa", "CanonicalizeHostname yes"):
        control.ssh_config.write_text(f"Host *\n  {config}\n")
        error = unreachable(control, node)
        assert (error["code"], error["details"]["fingerprint"]) == ("HOST_KEY_UNKNOWN", fingerprint(node))
    control.ssh_config.write_text("Host *\n  HostKeyAlgorithms ecdsa-sha2-nistp256\n")
    assert unreachable(control, node)["details"]["key_type"] == "ecdsa-sha2-nistp256"
    assert trusted(control, node.name, node).returncode == 1, "trust asks for the same type"
    control.ssh_config.write_text("")
    assert trusted(control, node.name, node).returncode == 0
    assert reached(control, node)


def test_sha1_is_asked_for_by_the_user_alone(make_node: Callable[..., LabNode], control: Control) -> None:
    node = make_node()
    public = new_key(node.directory / "rsa", "rsa")
    reconfigure_sshd(node, "HostKeyAlgorithms ssh-rsa", f"HostKey {node.directory}/rsa")
    control.inventory(node, trust=False)
    control.known_hosts.write_text(f"{node.address} {public}\n")
    error = unreachable(control, node)
    assert error["code"] == "NODE_UNREACHABLE"
    assert error["hint"].startswith("ssh -v "), "which says: Their offer: ssh-rsa"
    control.ssh_config.write_text("Host *\n  HostKeyAlgorithms +ssh-rsa\n")
    assert reached(control, node)


@pytest.mark.parametrize("flaw", ["principal", "expired", "sha1", "another authority"])
def test_a_certificate_that_does_not_do_leaves_the_plain_key(
    make_node: Callable[..., LabNode], control: Control, flaw: str
) -> None:
    """As with ssh: the key is looked up as if it came alone, and the certificate's fault is told."""
    node = make_node(sshd_options={"HostCertificate": "/tmp/host-cert.pub"})
    authority = control.home / "authority"
    public = new_key(authority, "rsa")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "it", "-h"]
    sign += ["-n", "elsewhere" if flaw == "principal" else node.address]
    sign += {"expired": ["-V", "20200101:20200102"], "sha1": ["-t", "ssh-rsa"]}.get(flaw, [])
    subprocess.run([*sign, node.directory / "host_key.pub"], check=True, capture_output=True)
    node.outside("/tmp/host-cert.pub").write_text((node.directory / "host_key-cert.pub").read_text())
    node.kill_sshd()
    node.start_sshd()
    if flaw == "another authority":
        public = new_key(control.home / "second")
    control.inventory(node, trust=False)
    control.known_hosts.write_text(f"@cert-authority * {public}\n")
    error = unreachable(control, node)
    assert (error["code"], error["details"]["fingerprint"]) == ("HOST_KEY_UNKNOWN", fingerprint(node))
    assert "its certificate was refused: " in error["message"]
    control.known_hosts.write_text(f"@cert-authority * {public}\n{node.address} {host_key(node)}\n")
    assert reached(control, node)
    control.known_hosts.write_text(control.known_hosts.read_text() + f"@revoked * {host_key(node)}\n")
    assert "revoked" in unreachable(control, node)["message"]


def test_a_valid_certificate_goes_before_an_old_key(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    node = make_node(sshd_options={"HostCertificate": "/tmp/host-cert.pub"})
    authority = control.home / "authority"
    public = new_key(authority)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "it", "-h", "-n", node.address]
    subprocess.run([*sign, node.directory / "host_key.pub"], check=True)
    node.outside("/tmp/host-cert.pub").write_text((node.directory / "host_key-cert.pub").read_text())
    node.kill_sshd()
    node.start_sshd()
    control.inventory(node, trust=False)
    old = new_key(control.home / "old")
    control.known_hosts.write_text(f"{node.address} {old}\n@cert-authority * {public}\n")
    assert reached(control, node)
