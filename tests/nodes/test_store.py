"""The model store over real sshd: pushed, resumed, listed, verified, removed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hubkit import Hub
from nodes.serving import GREEDY, PROMPT, equip, eventually, workers

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import fill, small_disk
from rbee_ssh.models import receiver
from rbee_ssh.node.scripts import LIB, compose

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


def moved(node: LabNode, *, sent: bool = False) -> int:
    """Bytes that have come to the node over its cable, or gone from it. /sys shows another network."""
    field = 10 if sent else 2
    return int(node.exec_local(f"awk '/eth0:/ {{ print ${field} }}' /proc/net/dev").stdout)


@contextlib.contextmanager
def mapping(node: LabNode, path: str) -> Iterator[None]:
    """A program of the node's user that has mapped a file."""
    code = (
        "import mmap, sys; f = open(sys.argv[1]); m = mmap.mmap(f.fileno(), 0, access=1); print(1); input()"
    )
    words = node.local_argv(f"exec python3 -uc {shlex.quote(code)} {shlex.quote(path)}")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None and program.stdout.readline() == "1\n"
        yield
        program.communicate("\n")


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
    before = moved(nodes[0])
    assert rbee(control, "push", str(model), "--node", nodes[0].name)["models"][0] in done["models"]
    assert moved(nodes[0]) - before < 200_000, "it is there already"
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
    listed = {one["node"]: one["verified"] for one in rbee(control, "list")["models"]}
    assert listed[nodes[0].name] is None and listed[nodes[1].name], (
        "what was proven once is no proof any more"
    )
    # It counts for nothing any more: the same command as before brings it again.
    for _ in range(2):
        (done_again,) = rbee(control, "push", str(model), "--node", nodes[0].name)["models"]
        assert sha256(nodes[0].outside(done_again["path"])) == sha256(model)
        nodes[0].outside(found[0]["path"]).write_bytes(b"GGUF" + bytes(3 * MIB - 4))
        rbee(control, "verify", model.name, "--node", nodes[0].name, status=1)
    # The hint puts it right, too, pasted as it stands.
    told = control.rbee("models", "verify", "--node", nodes[0].name)
    assert told.returncode == 1
    hint = told.stderr.partition("hint: ")[2].strip()
    for line in hint.split(" && "):
        assert control.rbee(*shlex.split(line)[1:]).returncode == 0, hint
    assert rbee(control, "verify", model.name)["models"][0]["state"] == "same"
    # One copy is in use: the others go, and that is not all that was asked for.
    with mapping(nodes[1], next(one["path"] for one in done["models"] if one["node"] == nodes[1].name)):
        answer = control.rbee("--json", "models", "rm", model.name, "--all")
        gone = json.loads(answer.stdout)
        assert answer.returncode == 1
        assert f"hint: rbee models rm {found[0]['id']} --node {nodes[1].name} --force" in answer.stderr
        assert {one["node"] for one in gone["removed"]} == {nodes[0].name, nodes[2].name}
        assert [one["node"] for one in gone["in_use"]] == [nodes[1].name]
        error = rbee(control, "rm", model.name, status=1)["error"]
        assert (error["code"], nodes[1].name in error["message"]) == ("MODEL_IN_USE", True)
    assert [one["node"] for one in rbee(control, "rm", model.name)["removed"]] == [nodes[1].name]


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
    assert "1 partial file, holds" in control.rbee("models", "list").stderr
    assert rbee(control, "prune", "--older-than", "1h")["partial"] == [], "it may be continued"
    before = moved(node)
    (done,) = rbee(control, "push", str(model), "--node", node.name)["models"]
    came, missing = moved(node) - before, 96 * MIB - partial["size"]
    assert missing < came < missing * 1.1 + MIB
    assert done["sha256"] == sha256(node.outside(done["path"]))


def test_a_file_that_is_cut_short_is_not_sent(node: LabNode, control: Control, engines: Engines) -> None:
    control.inventory(node)
    cut = control.work / "cut.gguf"
    cut.write_bytes(engines.model.read_bytes()[: 30 * MIB])
    error = rbee(control, "push", str(cut), status=1)["error"]
    assert (error["code"], "cut short" in error["message"]) == ("MODEL_INVALID", True)
    assert rbee(control, "list")["models"] == []


def test_several_pushes_at_once_send_a_file_once(node: LabNode, control: Control) -> None:
    control.inventory(node)
    model = a_model(control, size=48 * MIB)
    before = moved(node)
    pushing = [control.rbee_popen("models", "push", str(model)) for _ in range(4)]
    said = [one.communicate(timeout=60) for one in pushing]
    assert [one.returncode for one in pushing] == [0] * 4, said
    assert moved(node) - before < 54 * MIB
    (there,) = rbee(control, "list")["models"]
    assert sha256(node.outside(there["path"])) == sha256(model)


def test_what_was_cut_is_taken_away_when_it_is_asked_for(node: LabNode, control: Control) -> None:
    control.inventory(node)
    node.exec_local(f"mkdir -p {STORE}/.incoming")
    part = node.write(f"{STORE}/.incoming/0abc.part", "x" * 1000)
    rbee(control, "push", str(a_model(control, size=MIB)), "--node", node.name)
    hint = control.rbee("models", "list").stderr.rpartition(": rbee models ")[2].split()
    would = rbee(control, *hint, "--dry-run")
    assert would["dry_run"] is True
    told = rbee(control, *hint)
    assert (told["removed"], [one["size"] for one in told["partial"]]) == ([], [1000])
    assert not part.exists()
    assert len(rbee(control, "list")["models"]) == 1


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
    before = moved(source, sent=True)
    to = [word for node in (first, second, last) for word in ("--to", node.name)]
    copied = control.rbee("--json", "models", "copy", digest[:8], *to, check=True)
    done = json.loads(copied.stdout)["models"]
    way = f"copying {model.name} from {source.name} to"
    assert f"{way} {first.name}: 7 of 24 MiB are there\n" in copied.stderr
    assert f"{way} {second.name}: 20 of 24 MiB are there\n" in copied.stderr
    assert f"copying {model.name} (24 MiB) from {source.name} to {last.name}\n" in copied.stderr
    sent = moved(source, sent=True) - before
    assert [one["node"] for one in done] == [first.name, second.name, last.name]
    for one, node in zip(done, (first, second, last), strict=True):
        assert sha256(node.outside(one["path"])) == one["sha256"] == digest
    assert 24 * MIB < sent < 26 * MIB, "read once for all three"
    assert not list(control.home.rglob("*.part")), "nothing on this disk"
    again = control.rbee("models", "copy", "tiny", "--from", source.name, "--to", last.name, check=True)
    assert again.stderr == f"{model.name} is on {last.name} already: {done[2]['path']}\n"
    itself = rbee(control, "copy", "tiny", "--from", source.name, "--to", source.name)
    assert [one["node"] for one in itself["models"]] == [source.name]


def test_a_node_that_is_busy_with_the_file_holds_up_no_other(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    """Two copies that wait for each other's nodes would stand still."""
    source, busy, free = make_node(), make_node(), make_node()
    control.inventory(source, busy, free)
    model = a_model(control)
    digest = sha256(model)
    rbee(control, "push", str(model), "--node", source.name)
    owner = compose(
        LIB,
        receiver.STORE,
        then=f"""rbee_init && rbee_store '{busy.home}/{STORE}' && mkdir -p "$IN"
rbee_started $$; printf '%s\\n' "$$ $STARTED $BOOT" >"$IN/{digest[:24]}.part.owner"; echo held; read -r _""",
    )
    words = busy.local_argv(owner)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        copying = control.rbee_popen("models", "copy", "tiny", "--to", busy.name, "--to", free.name)
        there = free.outside(f"{STORE}/local/{digest[:12]}/{model.name}")
        eventually(lambda: there.exists() or copying.poll() is not None, within=15, why="it need not wait")
        assert there.exists() and copying.poll() is None
        other.communicate("\n")
    _, err = copying.communicate(timeout=60)
    assert copying.returncode == 0, err
    assert sha256(busy.outside(f"{STORE}/local/{digest[:12]}/{model.name}")) == digest


def test_a_pull_to_several_nodes_fetches_once(make_node: Callable[..., LabNode], control: Control) -> None:
    """One of them has no way to the hub."""
    nodes = [make_node(), make_node(), make_node()]
    content = b"GGUF" + bytes(range(256)) * 8192
    with Hub(nodes[0].address.rpartition(".")[0] + ".1") as hub:
        hub.add("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": content})
        control.env["HF_ENDPOINT"] = hub.endpoint
        control.inventory(*nodes, every={"tags": ["all"]}, text='[timeouts]\ndownload_wait = "10ms"\n')
        port = hub.endpoint.rpartition(":")[2]
        nodes[0].exec_local(f"iptables -A OUTPUT -p tcp --dport {port} -j REJECT", user="root")
        done = rbee(control, "pull", "hf:org/tiny-GGUF", "--tag", "all", status=0)
        assert {one["node"] for one in done["pulled"]} == {node.name for node in nodes}
        assert len(content) <= hub.bytes_sent < 1.1 * len(content)
        for one in done["pulled"]:
            node = next(node for node in nodes if node.name == one["node"])
            assert node.outside(one["path"]).read_bytes() == content
        assert {one["source"] for one in rbee(control, "list")["models"]} == {
            "hf:org/tiny-GGUF/tiny-Q4_K_M.gguf"
        }


def test_what_a_worker_has_is_not_removed_and_what_was_used_stays(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    infer = ("infer", "--model", str(engines.model), *GREEDY, "--max-tokens", "1", PROMPT)
    other = a_model(control, "unused.gguf")
    rbee(control, "push", str(other), "--node", node.name)
    control.rbee(*infer, check=True)
    (worker,) = workers(control)
    show = ("show", str(engines.model))
    assert rbee(control, *show)["nodes"][0]["file_there"] is True
    used, unused = rbee(control, "list")["models"]
    assert (used["name"], unused["name"]) == (engines.model.name, other.name)
    assert (used["architecture"], used["quant"], used["context"]) == ("llama", "Q4_1", 8192)
    assert (used["parameters"], unused["parameters"]) == (134_515_008, None)
    for model in (used, unused):
        note = node.outside(model["path"] + ".json")
        told = json.loads(note.read_text())
        note.write_text(json.dumps(told | {"last_used": 1000}))
    error = rbee(control, "rm", engines.model.name, status=1)["error"]
    assert (error["code"], error["details"]["copies"][0]["users"]) == ("MODEL_IN_USE", [worker["id"]])
    assert error["hint"].startswith(f"rbee workers stop {worker['id']}")
    told = rbee(control, "prune", "--older-than", "30d")
    assert [one["name"] for one in told["removed"]] == [other.name]
    assert [one["users"] for one in told["in_use"]] == [[worker["id"]]]
    assert [one["name"] for one in rbee(control, "list")["models"]] == [engines.model.name]
    control.rbee("workers", "stop", "--all", check=True)
    control.rbee(*infer, check=True)
    control.rbee("workers", "stop", "--all", check=True)
    told = rbee(control, "prune", "--older-than", "30d")
    assert told["removed"] == [], "its start was a use"
    assert rbee(control, "rm", used["sha256"][:6])["removed"][0]["id"] == used["id"]
    assert not list(node.outside(STORE).rglob("*.gguf*"))
    assert rbee(control, *show)["nodes"][0]["file_there"] is False
    # Nobody knows the file by its content any more, and to sum it would take as long as to read it.
    (control.home / ".local/state/rbee/registry.json").unlink()
    assert rbee(control, *show)["nodes"][0]["file_there"] is None


def test_what_a_node_says_of_its_store_does_no_harm(node: LabNode, control: Control) -> None:
    control.inventory(node)
    place = f"{STORE}/local/0123456789ab"
    notes = {
        "control": json.dumps({"source": "\x1b]0;pwned\x07", "quant": "\x1b[31mQ\u202e4", "size": 4}),
        "huge": '{"source":"' + "x" * 5_000_000 + '"}',
        "nothing": "\x00\xff\n\x1b[2J",
        "deep": "[" * 4000,
        "wrong": json.dumps({"sha256": "../../x", "size": -1, "last_used": "never", "verified": True}),
    }
    for name, text in notes.items():
        node.write(f"{place}/{name}.gguf", "GGUF")
        node.write(f"{place}/{name}.gguf.json", text)
    node.write(f"{place}/bad\x1b[31m\nname.gguf", "GGUF")
    node.exec_local(f"mkdir -p {STORE}/url/h/x; ln -s /etc/passwd {STORE}/url/h/x/link.gguf")
    found = {one["name"]: one for one in rbee(control, "list")["models"]}
    assert set(found) == {f"{name}.gguf" for name in notes} | {"link.gguf"}
    assert found["control.gguf"]["quant"] == "Q4"
    assert found["huge.gguf"]["source"] is None
    table = control.rbee("models", "list")
    assert (table.returncode, "\x1b" in table.stdout + table.stderr) == (0, False)
    checked = rbee(control, "verify", status=1)
    # Where a place is made of a SHA-256, it is not what it should be.
    states = {one["name"]: one["state"] for one in checked["models"]}
    assert states == dict.fromkeys(found, "differs") | {"link.gguf": "unknown"}
    ambiguous = rbee(control, "rm", "0123", status=1)["error"]
    assert ambiguous["code"] == "MODEL_AMBIGUOUS"
    rbee(control, "prune", "--older-than", "0s")
    assert node.exec_local("cat /etc/passwd").stdout


def test_a_full_disk_is_freed_again(node: LabNode, control: Control) -> None:
    models = small_disk(node, "small", "80m")
    control.inventory(node, every={"models_dir": models})
    large = a_model(control, size=24 * MIB)
    short = rbee(control, "push", str(large), status=1)["error"]
    assert (short["code"], short["details"]["need_bytes"]) == ("DISK_SHORT", 24 * MIB)
    assert "prune" in short["hint"]
    small_disk(node, "small", "200m")
    larger = a_model(control, "larger.gguf", size=100 * MIB)
    parts = f"{models}/.incoming/*.part"
    with control.rbee_popen("--json", "models", "push", str(larger)) as pushing:
        node.exec_local(f"until [ -s {parts} ]; do :; done", timeout=20)
        pushing.send_signal(signal.SIGSTOP)
        fill(node, models)
        pushing.send_signal(signal.SIGCONT)
        out, _ = pushing.communicate(timeout=60)
    assert json.loads(out)["error"]["code"] == "DISK_FULL"
    assert node.exec_local(f"ls {models}/.incoming").stdout == "", "space is free again"
