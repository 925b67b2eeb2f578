"""What ssh_config and an agent may hold, and what a login makes of it, over real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes.keys import new_key, reached
from nodes.test_reaching import unreachable

from nodekit import Control, LabNode
from rbee_ssh.errors import JumpFailed
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh.connector import Connector


@contextlib.contextmanager
def agent(control: Control, *keys: Path) -> Iterator[str]:
    """A real ssh-agent that holds these keys; gives its socket."""
    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True, env=control.env)
    variables = dict(part.split("=", 1) for part in said.stdout.replace("\n", "").split(";") if "=" in part)
    try:
        where = variables["SSH_AUTH_SOCK"]
        subprocess.run(["ssh-add", "-q", *keys], check=True, env=control.env | {"SSH_AUTH_SOCK": where})
        yield where
    finally:
        subprocess.run(["kill", variables["SSH_AGENT_PID"]], check=False)


def test_an_agent_with_more_keys_than_the_server_hears_is_no_dead_node(
    node: LabNode, control: Control
) -> None:
    control.inventory(node)
    strangers = [control.home / f"stranger{number}" for number in range(8)]
    for stranger in strangers:
        new_key(stranger)
    with agent(control, *strangers) as where:
        error = unreachable(control, node, env={"SSH_AUTH_SOCK": where})
        assert error["code"] == "AUTH_FAILED"
        assert "too many" in error["message"].lower()
        assert "identity_file" in error["hint"]
        control.inventory(node, every={"identity_file": "~/.ssh/id_ed25519"}, trust=False)
        assert reached(control, node, SSH_AUTH_SOCK=where), "a named key is offered alone"


def test_an_agent_that_does_not_answer_holds_nobody_up(lab: object, node: LabNode, control: Control) -> None:
    control.inventory(node)
    path = control.home / "agent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        assert reached(control, node, SSH_AUTH_SOCK=str(path))
        (control.home / ".ssh/id_ed25519").unlink()
        error = unreachable(control, node, env={"SSH_AUTH_SOCK": str(path)})
    assert error["code"] == "AUTH_FAILED"
    assert "agent" in error["message"]
    assert "does not answer" in error["message"]


def test_identity_agent_none_and_by_its_variable(node: LabNode, control: Control) -> None:
    control.inventory(node)
    key = control.home / ".ssh/id_ed25519"
    with agent(control, key) as where:
        key.unlink()
        for line, opens in (
            ("IdentityAgent none", False),
            ("IdentityAgent SSH_AUTH_SOCK", True),
            ("IdentityAgent $OTHER_AGENT", True),
        ):
            control.ssh_config.write_text(f"Host *\n  {line}\n")
            assert reached(control, node, SSH_AUTH_SOCK=where, OTHER_AGENT=where) is opens, line


@pytest.mark.parametrize(
    "line",
    [
        "CertificateFile ~/.ssh/missing-cert.pub",
        "CertificateFile ~/.ssh/id_ed25519.pub",
        "PKCS11Provider /usr/lib/none.so",
        "PubkeyAuthentication no",
        "IdentityFile ~nosuchuser/.ssh/id\n  IdentityFile ~/.ssh/id_ed25519",
        "UserKnownHostsFile ~nosuchuser/known ~/.ssh/known_hosts",
        "GlobalKnownHostsFile /var/lib/sss/pubconf/known_hosts",
        "RemoteCommand exit 1\n  RequestTTY force",
        "ForwardAgent yes\n  ForwardX11 yes\n  LocalForward 1 localhost:1",
    ],
)
def test_lines_of_ssh_config_that_ssh_lives_with(node: LabNode, control: Control, line: str) -> None:
    control.inventory(node)
    control.ssh_config.write_text(f"Host *\n  {line}\n")
    assert reached(control, node)


def test_what_cannot_be_read_of_ssh_config_is_told(node: LabNode, control: Control) -> None:
    control.inventory(node)
    control.ssh_config.write_text("Include ~nosuchuser/*\n")
    answer = control.rbee("--json", "workers", "list")
    assert (answer.returncode, json.loads(answer.stdout)["error"]["code"]) == (2, "SSH_CONFIG_INVALID")


def test_a_final_match_decides_as_in_ssh(node: LabNode, control: Control) -> None:
    control.trust(node)
    control.ssh_config.write_text(
        f"Host box\n  HostName {node.address}\nMatch final host {node.address}\n  User {node.user}\n"
    )
    control.inventory(nodes_also={"one": {"host": "box"}})
    assert reached(control, "one")


def test_a_certificate_named_in_ssh_config_opens_the_node(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    authority = control.home / "authority"
    public = new_key(authority)
    node = make_node(sshd_options={"TrustedUserCAKeys": "/tmp/authority.pub"})
    node.outside("/tmp/authority.pub").write_text(public + "\n")
    node.authorize()
    control.inventory(node)
    key = control.home / ".ssh/id_ed25519"
    assert not reached(control, node)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", node.user]
    subprocess.run([*sign, key.with_suffix(".pub")], check=True)
    (control.home / ".ssh/id_ed25519-cert.pub").rename(control.home / ".ssh/signed.pub")
    control.ssh_config.write_text("Host *\n  CertificateFile ~/.ssh/signed.pub\n")
    assert reached(control, node)


def test_ciphers_that_the_server_lacks_are_not_a_changed_key(node: LabNode, control: Control) -> None:
    control.inventory(node)
    control.ssh_config.write_text("Host *\n  KexAlgorithms diffie-hellman-group14-sha1\n")
    error = unreachable(control, node)
    assert error["code"] == "NODE_UNREACHABLE"
    assert error["details"]["attempts"]


@pytest.mark.parametrize("host", ["two..dots", "a" * 64 + ".example", "xn--"])
def test_a_host_that_is_no_name_is_no_bug(control: Control, host: str) -> None:
    control.inventory(nodes_also={"odd": {"host": host}})
    answer = control.rbee("--json", "workers", "stop", "--node", "odd")
    assert '"NODE_UNREACHABLE"' in answer.stdout
    assert host in answer.stdout


def test_a_hops_missing_key_is_said_before_any_connection(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    hop, node = make_node(), make_node()
    also = {node.name: {"jump": hop.name}, hop.name: {"identity_file": "/nowhere/id"}}
    control.inventory(hop, node, nodes_also=also)
    assert unreachable(control, node)["code"] == "KEY_NOT_FOUND"


def test_a_jump_host_that_came_back_is_used_again(
    make_node: Callable[..., LabNode], control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel lives for days: what it remembers of a hop must not outlive the hop's connection."""
    hop, node = make_node(), make_node()
    control.trust(hop, node)
    monkeypatch.setenv("HOME", str(control.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    nodes = {
        there.name: Node(there.name, there.address, port=there.port, user=there.user, jump=jump)
        for there, jump in ((hop, ()), (node, (hop.name,)))
    }

    async def work() -> None:
        wire = Connector(nodes, Timeouts(connect=2, connect_tries=2))
        try:
            await (await wire.connect(nodes[node.name])).close()
            hop.kill_sshd()
            with pytest.raises(JumpFailed):
                await wire.connect(nodes[node.name])
            hop.start_sshd()
            await (await wire.connect(nodes[node.name])).close()
        finally:
            await wire.close()

    asyncio.run(work())
