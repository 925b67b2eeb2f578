"""An ./inventory.toml that was found and not named: what it would make of the user's own machines."""

from __future__ import annotations

import hashlib
import json

import pytest
from nodes.test_reaching import error_of

from nodekit import Control, LabNode

# With python and env alone: the interpreter's own start opens a "browser".
CODE = """python = "/usr/bin/python3"
engine = "xllamacpp"
env = { PYTHONWARNINGS = "all:0:antigravity.x:0:0", BROWSER = "/bin/sh -c 'id >/tmp/ran' #%s" }
"""
OTHER_ACCOUNT = 'user = "somebody"\n'


@pytest.fixture
def alias(node: LabNode, control: Control) -> str:
    """The node as a Host of ssh_config whose key is known: what a stranger's file can name."""
    control.trust(node)
    control.ssh_config.write_text(
        f"Host gpu1\n  HostName {node.address}\n  Port {node.port}\n  User {node.user}\n"
    )
    return "gpu1"


def found(control: Control, keys: str, host: str = "gpu1") -> str:
    """Somebody's file in the directory that the user works in."""
    text = f'[nodes.gpu]\nhost = "{host}"\n{keys}'
    path = control.work / "inventory.toml"
    path.write_text(text)
    path.chmod(0o644)
    return text


@pytest.mark.parametrize("quiet", [[], ["-q"]], ids=["", "-q"])
def test_it_runs_no_code_on_another_machine(
    node: LabNode, control: Control, alias: str, quiet: list[str]
) -> None:
    node.must_be_a_machine("a /tmp of its own")
    found(control, CODE, alias)
    refused = control.rbee(*quiet, "nodes", "status")
    assert node.exec_local("cat /tmp/ran", check=False).stdout == ""
    assert refused.returncode == 2
    for word in ("nodes.gpu.python", "nodes.gpu.env", "hint: ", "rbee inventory allow"):
        assert word in refused.stderr, refused.stderr
    assert "nodes.gpu.engine" not in refused.stderr


def test_it_logs_in_to_no_other_account(node: LabNode, control: Control, alias: str) -> None:
    """The account is the stranger's, who lets the user's key in to be told the prompts."""
    node.must_be_a_machine("a second account")
    other = node.add_user("somebody")
    node.exec_local(
        "mkdir -m 700 .ssh; umask 077; cat >.ssh/authorized_keys", user=other, input=node.public_key
    )
    whoami = ("nodes", "run", "--", "id", "-un")
    text = found(control, OTHER_ACCOUNT, alias)
    refused = control.rbee("-q", "--json", *whoami)
    assert (refused.returncode, error_of(refused)["code"]) == (2, "INVENTORY_UNTRUSTED"), refused.stdout
    assert control.rbee("-q", "infer", "--model", "file:///m.gguf", "my secret").returncode == 2
    assert other not in node.sshd_log

    allowed = control.rbee("--json", "inventory", "allow")
    assert json.loads(allowed.stdout) == {
        "allowed": str(control.work / "inventory.toml"),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "keys": [{"line": 3, "key": "nodes.gpu.user", "problem": "decides as whom one logs in"}],
    }
    ran = control.rbee(*whoami)
    assert (ran.returncode, ran.stdout.split()[-1], ran.stderr) == (0, other, ""), ran.stderr
    found(control, OTHER_ACCOUNT + "port = 22\n", alias)
    assert control.rbee(*whoami).returncode == 2, "it has changed"
    found(control, OTHER_ACCOUNT, alias)
    assert control.rbee("inventory", "deny").returncode == 0
    assert control.rbee(*whoami).returncode == 2


def test_a_pattern_is_no_host(control: Control) -> None:
    """A shell in ssh_config's ProxyCommand would make options of the files that lie here."""
    control.ssh_config.write_text('Host *\n  ProxyCommand sh -c "tar -cf /dev/null %h; false"\n')
    for name in ("--checkpoint=1", "--checkpoint-action=exec=id >ran"):
        (control.work / name).touch()
    found(control, "", "*")
    refused = control.rbee("--json", "nodes", "status")
    assert not (control.work / "ran").exists()
    assert (refused.returncode, error_of(refused)["code"]) == (2, "INVENTORY_INVALID")


def test_it_may_name_machines_that_ssh_knows(node: LabNode, control: Control, alias: str) -> None:
    found(control, 'tags = ["gpu"]\nbackend = "cpu"\nlease = "5m"\n', alias)
    ran = control.rbee("nodes", "run", "--tag", "gpu", "--", "id", "-un")
    assert (ran.returncode, ran.stdout.split()[-1]) == (0, node.user), ran.stderr
    assert "found in" in ran.stderr


def test_nothing_else_of_that_directory_is_run(control: Control) -> None:
    """Neither here, where `localhost` has its programs started, nor by rbee's own Python."""
    mark = control.home / "ran"
    for name in ("json", "asyncssh", "click", "xllamacpp", "llama_cpp", "sitecustomize", "fabric", "invoke"):
        (control.work / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\n")
    for name in ("llama-server", "python3", "uname"):
        program = control.work / name
        program.write_text(f"#!/bin/sh\necho {name} >>{mark}\n")
        program.chmod(0o755)
    checked = control.rbee("--json", "nodes", "check", "localhost")
    assert '"name":"localhost"' in checked.stdout or '"node":"localhost"' in checked.stdout, checked.stderr
    assert control.rbee("nodes", "status").returncode == 0
    assert not mark.exists(), mark.read_text()
