"""`rbee nodes check` against real sshd nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nodes.serving import equip

from nodekit import Control, LabNode
from nodekit.engines import Engines


def checked(control: Control, *args: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and of each node its checks by their names."""
    answer = control.rbee("--json", "nodes", "check", *args)
    assert answer.stdout, answer.stderr
    nodes = json.loads(answer.stdout)["nodes"]
    return answer.returncode, {node["name"]: {one["name"]: one for one in node["checks"]} for node in nodes}


def test_several_at_once_each_with_what_is_wrong(
    make_node: Callable[..., LabNode], control: Control, engines: Engines
) -> None:
    fine = make_node(sshd_options={"MaxSessions": 1})
    closed = make_node(sshd_options={"AllowStreamLocalForwarding": "no"}, shell="/bin/zsh", rc="echo hello\n")
    strange, gone = make_node(), make_node()
    equip(control, engines, fine, closed, strange, gone)
    gone.kill_sshd()
    strange.renew_host_key()
    status, found = checked(control)
    assert status == 1
    assert list(found) == [node.name for node in (fine, closed, strange, gone)]
    works = found[fine.name]
    assert {one["state"] for one in works.values()} <= {"ok", "unknown"}, works
    assert (works["forwarding"]["state"], works["engine"]["state"]) == ("ok", "ok")
    assert works["reachable"]["seconds"] > 0
    assert works["login"]["seconds"] > 0
    assert found[closed.name]["forwarding"]["state"] == "failed"
    assert 'listen = "tcp"' in found[closed.name]["forwarding"]["fix"]
    assert found[closed.name]["engine"]["state"] == "ok", "the rest is tried all the same"
    assert [one["state"] for one in found[strange.name].values()][:3] == ["ok", "failed", "not_tried"]
    assert "ssh-keygen -R" in found[strange.name]["host_key"]["fix"]
    assert {one["state"] for one in found[gone.name].values()} == {"failed", "not_tried"}
    assert "Accepted" not in strange.sshd_log

    equip(control, engines, fine, closed, listen="tcp")
    status, found = checked(control)
    assert status == 0, found
    text = control.rbee("nodes", "check", fine.name)
    assert (text.returncode, text.stdout.splitlines()[0]) == (0, f"{fine.name}: works")
    assert "\x1b" not in text.stdout
    for node in (fine, closed):
        assert not node.exec_local("ls -d /tmp/rbee.* 2>/dev/null", check=False).stdout


def test_a_bare_node(node: LabNode, control: Control) -> None:
    """No engine; and no home that could be written to."""
    control.inventory(node)
    node.exec_local(f"chmod 500 {node.home}", user="root")
    status, found = checked(control, node.name)
    node.exec_local(f"chmod 700 {node.home}", user="root")
    checks = found[node.name]
    assert status == 1
    assert (checks["engine"]["state"], checks["engine"]["fix"]) == ("failed", f"rbee nodes setup {node.name}")
    assert checks["state_dir"]["state"] == "failed"
    assert checks["forwarding"]["state"] == "ok"
