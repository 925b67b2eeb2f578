"""The model store over real sshd: pushed, resumed, listed, verified, removed."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodekit import Control, LabNode

MIB = 2**20
STORE = ".local/share/rbee/models"


def a_model(control: Control, name: str = "tiny.gguf", size: int = 3 * MIB, seed: int = 1) -> Path:
    """A file that begins as a model does."""
    path = control.work / name
    piece = hashlib.sha512(bytes([seed])).digest() * 1024
    path.write_bytes((b"GGUF" + piece * (size // len(piece) + 1))[:size])
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rbee(control: Control, *args: str, status: int = 0) -> dict[str, Any]:
    """`rbee --json models …`."""
    answer = control.rbee("--json", "models", *args)
    assert answer.returncode == status, answer.stdout + answer.stderr
    return dict(json.loads(answer.stdout))


def received(node: LabNode) -> int:
    """Bytes that have come to the node over its cable."""
    text = node.exec_local("cat /sys/class/net/eth0/statistics/rx_bytes").stdout
    return int(text)


def test_a_push_to_several_nodes(make_node: Callable[..., LabNode], control: Control) -> None:
    nodes = [make_node(), make_node(shell="busybox"), make_node()]
    control.inventory(*nodes, every={"tags": ["all"]})
    model = a_model(control, "my model; $(rm) 'ü'.gguf")
    done = rbee(control, "push", str(model), "--tag", "all")
    assert {one["node"] for one in done["models"]} == {node.name for node in nodes}
    for one in done["models"]:
        node = next(node for node in nodes if node.name == one["node"])
        assert one["sha256"] == sha256(model) == sha256(node.outside(one["path"]))
        assert one["path"] == f"{node.home}/{STORE}/local/{one['sha256'][:12]}/{model.name}"
        assert list(node.outside(f"{STORE}/.incoming").iterdir()) == []
    before = received(nodes[0])
    assert rbee(control, "push", str(model), "--node", nodes[0].name)["models"][0] in done["models"]
    assert received(nodes[0]) - before < 200_000, "it is there already"
    found = rbee(control, "list")["models"]
    assert [(one["node"], one["name"], one["whole"]) for one in found] == [
        (node.name, model.name, True) for node in nodes
    ]
    nodes[0].outside(found[0]["path"]).write_bytes(b"GGUF" + bytes(3 * MIB - 4))
    checked = rbee(control, "verify", model.name, status=1)
    assert {one["node"]: one["state"] for one in checked["models"]} == {
        nodes[0].name: "differs",
        nodes[1].name: "same",
        nodes[2].name: "same",
    }


def test_a_push_that_is_cut_goes_on_where_it_stopped(node: LabNode, control: Control) -> None:
    control.inventory(node)
    model = a_model(control, size=96 * MIB)
    part = node.outside(f"{STORE}/.incoming")
    pushing = control.rbee_popen("models", "push", str(model), "--node", node.name)

    def half() -> bool:
        return any(file.stat().st_size > 48 * MIB for file in part.glob("*.part"))

    end = time.monotonic() + 30
    while not half() and pushing.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    pushing.send_signal(signal.SIGKILL)
    pushing.communicate()
    assert rbee(control, "list")["models"] == [], "part of a model is none"
    (partial,) = rbee(control, "list")["partial"]
    assert partial["size"] < 96 * MIB, "it was too late"
    before = received(node)
    (done,) = rbee(control, "push", str(model), "--node", node.name)["models"]
    moved = received(node) - before
    assert moved < (96 * MIB - partial["size"]) * 1.1 + MIB
    assert done["sha256"] == sha256(node.outside(done["path"]))


def test_a_copy_is_read_once_and_goes_on_where_it_stopped(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    """To three nodes, one of them behind a jump host, and two that have a part of it."""
    source, first, second, hop = make_node(), make_node(), make_node(), make_node()
    last = make_node(reachable_from=hop)
    control.inventory(source, first, second, hop, last, nodes_also={last.name: {"jump": hop.name}})
    model = a_model(control, size=24 * MIB)
    digest = sha256(model)
    rbee(control, "push", str(model), "--node", source.name)
    for node, have in ((first, 7 * MIB + 5), (second, 20 * MIB)):
        node.exec_local(f"mkdir -p {STORE}/.incoming")
        node.write(f"{STORE}/.incoming/{digest[:24]}.part", "").write_bytes(model.read_bytes()[:have])
    sent = int(source.exec_local("cat /sys/class/net/eth0/statistics/tx_bytes").stdout)
    to = [word for node in (first, second, last) for word in ("--to", node.name)]
    done = rbee(control, "copy", digest[:8], *to)["models"]
    sent = int(source.exec_local("cat /sys/class/net/eth0/statistics/tx_bytes").stdout) - sent
    assert [one["node"] for one in done] == [first.name, second.name, last.name]
    for one, node in zip(done, (first, second, last), strict=True):
        assert sha256(node.outside(one["path"])) == one["sha256"] == digest
    assert sent < 26 * MIB, "read once for all three"
    assert not list(control.home.rglob("*.part")), "nothing on this disk"
    again = rbee(control, "copy", "tiny", "--from", source.name, "--to", last.name)
    assert again["models"][0]["path"] == done[2]["path"]
