"""`rbee nodes add`, `trust` and `remove` from an empty home, over real sshd."""

from __future__ import annotations

import json
from collections.abc import Callable

from nodes.keys import fingerprint, host_key, reached
from nodes.terminal import answered
from nodes.test_reaching import error_of

from nodekit import Control, LabNode


def way(node: LabNode) -> list[str]:
    """The options that say where a node is."""
    return ["--host", node.address, "--port", str(node.port), "--user", node.user]


def test_from_an_empty_home_to_a_node_and_back(node: LabNode, control: Control) -> None:
    path = control.home / ".config/rbee/inventory.toml"
    unknown = control.rbee("--json", "nodes", "add", "gpu1", *way(node), "--tag", "gpu")
    error = error_of(unknown)
    assert (unknown.returncode, error["code"]) == (1, "HOST_KEY_UNKNOWN")
    assert error["details"]["fingerprint"] == fingerprint(node)
    assert error["hint"].endswith(
        f"rbee nodes add gpu1 --host {node.address} --port {node.port} --user {node.user} --tag gpu "
        f"--fingerprint {fingerprint(node)}"
    )
    assert "Accepted" not in node.sshd_log
    wrong = control.rbee("nodes", "add", "gpu1", *way(node), "--fingerprint", "SHA256:wrong")
    assert wrong.returncode == 1
    assert not path.exists() and not control.known_hosts.exists()

    given = ["--fingerprint", fingerprint(node)]
    added = control.rbee("--json", "nodes", "add", "gpu1", *way(node), "--tag", "gpu", *given)
    assert added.returncode == 0, added.stdout + added.stderr
    said = json.loads(added.stdout)
    assert said["added"]["host"] == node.address
    assert said["facts"]["engines"] == []
    assert "rbee nodes setup gpu1" in added.stderr
    assert host_key(node) in control.known_hosts.read_text()
    assert path.read_text() == (
        f'[nodes.gpu1]\nhost = "{node.address}"\nport = {node.port}\nuser = "{node.user}"\ntags = ["gpu"]\n'
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert reached(control, "gpu1")

    trusted = control.rbee("nodes", "trust", "gpu1")
    assert (trusted.returncode, trusted.stderr.strip()) == (0, "its key is in known_hosts already")
    other = control.rbee("nodes", "trust", "gpu1", "--fingerprint", "SHA256:other")
    assert (other.returncode, "another host key" in other.stderr) == (1, True)

    again = control.rbee("--json", "nodes", "add", "gpu1", "--no-check")
    assert (again.returncode, error_of(again)["code"]) == (2, "NODE_EXISTS")
    replaced = control.rbee("nodes", "add", "gpu1", *way(node), "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert "tags" not in path.read_text()
    removed = control.rbee("nodes", "remove", "gpu1")
    assert (removed.returncode, removed.stdout) == (0, f"removed gpu1 from {path}\n"), removed.stderr
    assert path.read_text() == ""


def test_on_a_terminal_the_key_is_asked_about_through_a_jump_host(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    """With names hashed where ssh would hash them: ssh_config says so, and then the file is of that kind."""
    hop = make_node()
    far = make_node(reachable_from=hop)
    control.env["RBEE_INVENTORY"] = str(control.home / "my.toml")
    control.ssh_config.write_text("Host *\n  HashKnownHosts yes\n")
    args = ["nodes", "add", "hop", *way(hop)]
    status, screen = answered(control, args, [("Is that the key of hop? [y/N]", "no\n")])
    assert (status, "not trusted" in screen) == (1, True), screen
    assert not (control.home / "my.toml").exists()
    status, screen = answered(control, args, [(fingerprint(hop), ""), ("[y/N]", "yes\n")])
    assert (status, f"added hop to {control.home}/my.toml" in screen) == (0, True), screen
    status, screen = answered(
        control,
        ["nodes", "add", "far", *way(far), "--jump", "hop"],
        [(fingerprint(far), ""), ("[y/N]", "y\n")],
    )
    assert status == 0, screen
    assert [line.split("|")[1] for line in control.known_hosts.read_text().splitlines()] == ["1", "1"]
    assert reached(control, "far")
    kept = control.rbee("--json", "nodes", "remove", "hop")
    assert error_of(kept)["details"]["dependents"] == ["far"]
    assert control.rbee("nodes", "remove", "hop", "far").returncode == 0


def test_what_does_not_work_is_not_saved(node: LabNode, control: Control) -> None:
    path = control.inventory(node)
    before = path.read_text()
    node.kill_sshd()
    down = control.rbee("nodes", "add", "down", *way(node))
    assert down.returncode == 1
    assert "--no-check" in down.stderr
    odd = control.rbee("--json", "nodes", "add", "odd name", "--host", "-x", "--port", "0", "--no-check")
    assert (odd.returncode, error_of(odd)["code"]) == (2, "USAGE_INVALID")
    assert {"port", "host"} <= {
        fault["key"].rpartition(".")[2] for fault in error_of(odd)["details"]["faults"]
    }
    assert path.read_text() == before
    assert control.rbee("nodes", "add", "down", *way(node), "--no-check").returncode == 0
    assert path.read_text().startswith(before.rstrip("\n"))


def test_hosts_of_ssh_config_with_an_include_and_a_jump_host(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    gate = make_node()
    far = make_node(reachable_from=gate)
    (control.home / ".ssh/lab").write_text(
        f"Host gate\n  HostName {gate.address}\n  User {gate.user}\n  Port {gate.port}\n"
        f"Host far\n  HostName {far.address}\n  User {far.user}\n  ProxyJump gate\n"
    )
    control.ssh_config.write_text(
        "Include lab\nHost down\n  HostName 127.0.0.1\n  Port 9\nHost * !gate\n  ConnectTimeout 3\n"
    )
    path = control.home / "my.toml"
    path.write_text("# mine\n[timeouts]\nconnect_tries = 1\n")
    control.env["RBEE_INVENTORY"] = str(path)
    error = error_of(control.rbee("--json", "nodes", "import"))
    assert (error["code"], error["details"]["hosts"]) == ("USAGE_INVALID", ["gate", "far", "down"])
    picked = [("1  gate", ""), (f"{far.user}@{far.address}:22 by way of gate", ""), ("Which?", "4\n")]
    picked += [("there are 1 to 3", ""), ("Which?", "1-2 down\n")]
    answers = [("Is that the key of gate? [y/N]", "yes\n"), ("Is that the key of far? [y/N]", "yes\n")]
    status, screen = answered(control, ["nodes", "import"], [*picked, *answers])
    assert status == 1, "one of them is down"
    assert "added gate: Linux" in screen and "added far: Linux" in screen and "127.0.0.1 port 9" in screen
    assert path.read_text() == (
        '# mine\n[timeouts]\nconnect_tries = 1\n\n[nodes.gate]\nhost = "gate"\n\n[nodes.far]\nhost = "far"\n'
    )
    assert reached(control, "far")
    rest = control.rbee("--json", "nodes", "import", "--all", "--no-check")
    assert [node["host"] for node in json.loads(rest.stdout)["added"]] == ["down"]
    near = error_of(control.rbee("--json", "nodes", "import", "gates"))
    assert 'did you mean "gate"' in near["message"]
