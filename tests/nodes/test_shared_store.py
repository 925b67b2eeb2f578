"""A models_dir that other users of the node may write: what they put there, and where nothing is written."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from hubkit import Hub
from nodes.serving import GREEDY, PROMPT, equip, text_of
from nodes.test_store import MIB, a_model, rbee, sha256

from nodekit import Control, LabNode
from nodekit.engines import Engines

SHARED = "/tmp/shared"
TINY = "hf:org/tiny-GGUF"
GENUINE = b"GGUF" + bytes(range(256)) * 4000
OTHER = GENUINE[:-5] + b"other"
TIMEOUTS = '[timeouts]\ndownload_wait = "10ms"\n'


@pytest.fixture
def other(node: LabNode, control: Control) -> str:
    """Another user of the node; the store is one that all may write, as /tmp is."""
    name = node.add_user("other")
    node.exec_local(f"mkdir -m 1777 {SHARED}", user="root")
    control.inventory(node, every={"models_dir": SHARED}, text=TIMEOUTS)
    return name


def hub_of(node: LabNode, control: Control) -> Hub:
    hub = Hub(node.address.rpartition(".")[0] + ".1")
    hub.add("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": GENUINE})
    control.env["HF_ENDPOINT"] = hub.endpoint
    return hub


def place_of(content: bytes) -> str:
    return f"hf/org/tiny-GGUF/{hashlib.sha256(content).hexdigest()[:12]}/tiny-Q4_K_M.gguf"


def put(node: LabNode, user: str, path: str, content: bytes, note: dict[str, object]) -> None:
    """A file with its note, as that user would leave it."""
    aside = node.outside("/tmp/aside")
    aside.write_bytes(content)
    aside.chmod(0o644)
    text = json.dumps(note, separators=(",", ":"))
    node.exec_local(
        f"umask 022; mkdir -p {path.rpartition('/')[0]} && cat /tmp/aside >{path}.new && "
        f"mv -f {path}.new {path} && printf '%s' '{text}' >{path}.json",
        user=user,
    )
    aside.unlink()


def note_of(content: bytes, claimed: bytes | None = None) -> dict[str, object]:
    digest = hashlib.sha256(claimed or content).hexdigest()
    told: dict[str, object] = {"source": "hf:org/tiny-GGUF/tiny-Q4_K_M.gguf", "sha256": digest}
    return told | {"size": len(content), "fetched": 1, "last_used": 1, "verified": 1}


def mode(node: LabNode, path: str) -> str:
    return node.exec_local(f"stat -c %a {path}", user="root").stdout.strip()


def pulled(answer: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (one,) = json.loads(answer.stdout)["pulled"]
    return dict(one)


def test_a_link_among_the_partial_files_leads_nowhere(node: LabNode, control: Control, other: str) -> None:
    node.write(".ssh/kept", "mine\n")
    machine = node.exec_local("head -c 8 /etc/machine-id").stdout
    with hub_of(node, control):
        digest = hashlib.sha256(GENUINE).hexdigest()[:12]
        part = f"{machine}-_tmp_shared_hf_org_tiny-GGUF_{digest}-1.part"
        node.exec_local(
            f"umask 0; mkdir {SHARED}/.incoming; cd {SHARED}/.incoming\n"
            f'for f in "{part}" "{part}.etag" "{part}.etag.tmp"; do ln -s {node.home}/.ssh/kept "$f"; done',
            user=other,
        )
        got = pulled(control.rbee("--json", "models", "pull", TINY))
        # And a file from here: its key is known, too.
        model = a_model(control, size=MIB)
        for end in (".part", ".part.owner", ".part.sum"):
            link = f"{SHARED}/.incoming/{sha256(model)[:24]}{end}"
            node.exec_local(f"ln -s {node.home}/.ssh/kept {link}", user=other)
        rbee(control, "push", str(model))
    assert node.outside(".ssh/kept").read_text() == "mine\n"
    assert node.outside(str(got["path"])).read_bytes() == GENUINE
    assert mode(node, f"{SHARED}/.incoming-{node.uid}") == "700"
    told = rbee(control, "prune", "--partial", "--older-than", "0s")
    assert told["partial"] == []
    assert node.outside(".ssh/kept").read_text() == "mine\n"


@pytest.mark.parametrize("what", ["theirs", "open", "link", "file"])
def test_partial_files_are_ours_alone(node: LabNode, control: Control, other: str, what: str) -> None:
    incoming = f"{SHARED}/.incoming-{node.uid}"
    made = {
        "theirs": f"umask 0; mkdir {incoming}",
        "open": f"mkdir -m 777 {incoming}",
        "link": f"ln -s {node.home}/.ssh {incoming}",
        "file": f"echo >{incoming}",
    }[what]
    node.exec_local(made, user=node.user if what == "open" else other)
    model = a_model(control, size=MIB)
    error = control.failed("models", "push", str(model), "--node", node.name)
    assert (error["code"], incoming in error["message"]) == ("SHELL_UNUSABLE", True), error
    assert "ls -ld" in error["hint"]
    with hub_of(node, control):
        pull = control.failed("models", "pull", TINY, "--node", node.name)
    assert (pull["code"], incoming in pull["message"]) == ("SHELL_UNUSABLE", True), pull
    assert list(node.outside(".ssh").iterdir()) == [node.outside(".ssh/authorized_keys")]


@pytest.mark.parametrize("way", ["hf", "hf/org", "hf/org/tiny-GGUF", "leaf"])
def test_no_link_leads_to_the_place_of_a_model(node: LabNode, control: Control, other: str, way: str) -> None:
    node.exec_local("mkdir mine")
    leaf = place_of(GENUINE).rpartition("/")[0]
    link = leaf if way == "leaf" else way
    node.exec_local(
        f"umask 0; mkdir -p {SHARED}/{link}; rmdir {SHARED}/{link}; ln -s {node.home}/mine {SHARED}/{link}",
        user=other,
    )
    with hub_of(node, control) as hub:
        error = control.failed("models", "pull", TINY, "--node", node.name)
        assert hub.bytes_sent == 0, "it is told before anything is fetched"
    assert (error["code"], f"{SHARED}/{link}" in error["message"]) == ("SHELL_UNUSABLE", True), error
    assert list(node.outside("mine").iterdir()) == []


def test_what_another_user_has_is_proven_once_and_used(node: LabNode, control: Control, other: str) -> None:
    path = f"{SHARED}/{place_of(GENUINE)}"
    put(node, other, path, GENUINE, note_of(GENUINE))
    with hub_of(node, control) as hub:
        first = control.rbee("--json", "models", "pull", TINY)
        assert (pulled(first)["path"], pulled(first)["fetched"]) == (path, False)
        assert first.stderr.count("others than this login may write") == 1, first.stderr
        again = control.rbee("--json", "models", "pull", TINY)
        assert pulled(again)["path"] == path
        assert "others" not in again.stderr, "it is remembered"
        # Another file of that size and time, with a note that says what it is not.
        node.exec_local(f"touch -r {path} /tmp/when", user=other)
        put(node, other, path, OTHER, note_of(OTHER, GENUINE))
        node.exec_local(f"touch -r /tmp/when {path}", user=other)
        assert rbee(control, "verify", "tiny-Q4_K_M", status=1)["models"][0]["state"] == "differs"
        first = control.rbee("models", "pull", TINY, "--node", node.name)
        assert "is not the file that it should be" in first.stderr
        error = control.failed("models", "pull", TINY, "--node", node.name)
        assert error["code"] == "SHELL_UNUSABLE", error
        assert hub.bytes_sent == 0


def test_a_store_that_we_may_only_read(node: LabNode, control: Control, other: str) -> None:
    path = f"/tmp/theirs/{place_of(GENUINE)}"
    put(node, other, path, GENUINE, note_of(GENUINE))
    control.inventory(node, every={"models_dir": "/tmp/theirs"}, text=TIMEOUTS)
    with hub_of(node, control) as hub:
        assert pulled(control.rbee("--json", "models", "pull", TINY))["path"] == path
        assert hub.bytes_sent == 0


def test_a_push_is_not_taken_by_what_another_user_put_there(
    node: LabNode, control: Control, other: str
) -> None:
    model = a_model(control, size=MIB)
    digest = sha256(model)
    path = f"{SHARED}/local/{digest[:12]}/{model.name}"
    bad = model.read_bytes()[:-3] + b"bad"
    put(node, other, path, bad, note_of(bad, model.read_bytes()))
    answer = control.rbee("--json", "models", "push", str(model))
    assert answer.returncode == 1, answer.stdout
    assert json.loads(answer.stdout)["error"]["code"] == "SHELL_UNUSABLE"
    # The genuine one is taken, after a look.
    put(node, other, path, model.read_bytes(), note_of(model.read_bytes()))
    (done,) = rbee(control, "push", str(model))["models"]
    assert done["path"] == path


def test_ours_in_a_sticky_store_needs_no_proof(node: LabNode, control: Control, other: str) -> None:
    model = a_model(control, size=MIB)
    first = control.rbee("models", "push", str(model), check=True)
    again = control.rbee("models", "push", str(model), check=True)
    assert "others" not in first.stderr + again.stderr
    (path,) = [one["path"] for one in rbee(control, "list")["models"]]
    assert (mode(node, path), mode(node, path.rpartition("/")[0])) == ("644", "755"), "sharing is the point"
    assert node.exec_local(f"head -c 4 {path}", user=other).stdout == "GGUF"


def test_a_worker_gets_no_model_that_was_swapped(
    node: LabNode, control: Control, engines: Engines, other: str
) -> None:
    """`local` is another user's, who lets others write in it, and changes what they have put there."""
    equip(control, engines, node, models_dir=SHARED, text=TIMEOUTS)
    node.exec_local(f"umask 0; mkdir {SHARED}/local", user=other)
    infer = ("--json", "infer", "--model", str(engines.model), *GREEDY, "--max-tokens", "2", PROMPT)
    answer = control.rbee(*infer)
    assert text_of(answer), answer.stdout + answer.stderr
    assert "others" not in answer.stderr, "we have put it there, and know what it is"
    control.rbee("workers", "stop", "--all", "--now", check=True)
    digest = sha256(engines.model)
    place = f"{SHARED}/local/{digest[:12]}"
    note = json.loads(node.exec_local(f"cat {place}/*.json", user=other).stdout)
    bad = engines.model.read_bytes()[:-1000] + bytes(1000)
    node.exec_local(f"mv {place} {SHARED}/local/away", user=other)
    node.exec_local(f"rm -r {SHARED}/local/away")
    put(node, other, f"{place}/{engines.model.name}", bad, note)
    answer = control.rbee(*infer)
    assert answer.returncode == 1, "it is not used, and nothing can be put in its place"
    assert json.loads(answer.stdout.splitlines()[-1])["error"]["code"] == "SHELL_UNUSABLE"
    # Proven where it is, once.
    node.exec_local(f"rm -r {place}", user=other)
    put(node, other, f"{place}/{engines.model.name}", engines.model.read_bytes(), note)
    answer = control.rbee(*infer)
    assert text_of(answer), answer.stdout + answer.stderr
    assert answer.stderr.count("others than this login may write") == 1
    control.rbee("workers", "stop", "--all", "--now", check=True)
    answer = control.rbee(*infer)
    assert text_of(answer) and "others" not in answer.stderr


def test_a_note_beside_a_model_of_another_user_writes_nothing_of_ours(
    node: LabNode, control: Control, engines: Engines, other: str
) -> None:
    """Each start of a worker writes down when the model was used."""
    equip(control, engines, node)
    node.write("kept", "mine\n")
    place = f"{SHARED}/x/m.gguf"
    node.exec_local(
        f"umask 0; mkdir {SHARED}/x; ln -s {engines.model} {place}\n"
        f"echo '{{\"last_used\":1}}' >{place}.json; ln -s {node.home}/kept {place}.json.tmp",
        user=other,
    )
    answer = control.rbee("--json", "infer", "--model", f"file://{place}", "--max-tokens", "1", PROMPT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert node.outside("kept").read_text() == "mine\n"


def test_prune_takes_nothing_by_way_of_a_link_and_nothing_of_others(
    node: LabNode, control: Control, other: str
) -> None:
    mine = node.write("models/0123456789ab/mine.gguf", "GGUF")
    node.exec_local(f"umask 0; mkdir {SHARED}/local; ln -s {node.home}/models/* {SHARED}/local/", user=other)
    put(node, other, f"{SHARED}/{place_of(GENUINE)}", GENUINE, note_of(GENUINE))
    node.exec_local(f"chmod -R 777 {SHARED}/hf", user=other)
    assert [one["name"] for one in rbee(control, "list")["models"]] == ["tiny-Q4_K_M.gguf"]
    assert rbee(control, "prune", "--older-than", "0s")["removed"] == []
    assert mine.exists() and node.outside(f"{SHARED}/{place_of(GENUINE)}").exists()
    # Where that very model is meant, it goes, if it can.
    node.exec_local(f"chmod -R go-w {SHARED}/hf", user=other)
    error = control.failed("models", "rm", "tiny-Q4_K_M", "--node", node.name)
    assert (error["code"], SHARED in error["message"]) == ("SHELL_UNUSABLE", True)
    node.exec_local(f"chmod -R 777 {SHARED}/hf", user=other)
    assert len(rbee(control, "rm", "tiny-Q4_K_M")["removed"]) == 1


def test_what_only_a_token_opens_is_for_nobody_else(node: LabNode, control: Control) -> None:
    home = ".local/share/rbee/models/hf/org"
    with hub_of(node, control) as hub:
        hub.add("org/gated-GGUF", {"tiny-Q4_K_M.gguf": OTHER}, token="hf_x", gated=True)
        hub.add("org/kept-GGUF", {"tiny-Q4_K_M.gguf": OTHER[:-1]}, token="hf_x", lfs=False)
        control.inventory(node, text=TIMEOUTS)
        control.env["HF_TOKEN"] = "hf_x"
        for name in ("gated", "kept"):
            pulled(control.rbee("--json", "models", "pull", f"hf:org/{name}-GGUF"))
            directory = node.exec_local(f"echo {home}/{name}-GGUF/*").stdout.strip()
            assert mode(node, f"{node.home}/{directory}") == "700"
            rbee(control, "verify", "tiny-Q4_K_M", "--node", node.name)
            files = node.exec_local(f"stat -c '%a %n' {directory}/*").stdout.splitlines()
            assert [line.split()[0] for line in files] == ["600", "600"], files
            rbee(control, "rm", "tiny-Q4_K_M")
        pulled(control.rbee("--json", "models", "pull", TINY))
    assert mode(node, f"{node.home}/.local/share/rbee/models/{place_of(GENUINE)}") == "644"
    assert Path(node.outside(home)).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_a_note_that_nobody_can_read_holds_nothing_up(
    node: LabNode, control: Control, engines: Engines, other: str, kind: str
) -> None:
    """A pipe that nobody writes, a file without an end, and one that is longer than any note."""
    make = {
        "pipe": "rm -f {0}; mkfifo -m 666 {0}",
        "device": "ln -sf /dev/zero {0}",
        "huge": "head -c 60000000 /dev/zero | tr '\\0' x >{0}",
    }[kind]
    equip(control, engines, node, models_dir=SHARED, text=TIMEOUTS)
    model = a_model(control, size=MIB)
    mine = f"{SHARED}/local/{sha256(model)[:12]}/{model.name}"
    theirs = f"{SHARED}/{place_of(GENUINE)}"
    outside = "/tmp/theirs/m.gguf"
    node.exec_local(f"umask 022; mkdir /tmp/theirs; ln -s {engines.model} {outside}", user=other)
    for path in (mine, theirs, outside):
        if path != outside:
            put(node, other, path, GENUINE, note_of(GENUINE))
        node.exec_local(make.format(f"{path}.json"), user=other)
    with hub_of(node, control):
        # Not used by its size, and not replaced, which is told at once.
        answer = control.rbee("--json", "models", "push", str(model), timeout=20)
        assert json.loads(answer.stdout)["error"]["code"] == "SHELL_UNUSABLE", answer.stdout
        assert pulled(control.rbee("--json", "models", "pull", TINY, timeout=20))["path"] == theirs
        rbee(control, "list")
        infer = ("--json", "infer", "--model", f"file://{outside}", "--max-tokens", "1", PROMPT)
        answer = control.rbee(*infer, timeout=30)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    answer = control.rbee("models", "prune", "--older-than", "0s", timeout=20)
    assert answer.returncode == 0, answer.stderr
