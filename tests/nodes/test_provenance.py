"""A node that says of its files what is not so, beside nodes that do not: what it says counts there alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hubkit import Hub
from nodes.serving import GREEDY, PROMPT, equip, text_of
from nodes.test_pull import trusted
from nodes.test_store import STORE, rbee, sha256

from nodekit import Control, LabNode
from nodekit.engines import Engines

SIZE = 2**20 + 17
BYTES = b"GGUF" + random.Random(11).randbytes(SIZE - 4)
EVIL = b"GGUF" + random.Random(12).randbytes(SIZE - 4)
DIGEST, BAD = (hashlib.sha256(content).hexdigest() for content in (BYTES, EVIL))
NAME = "tiny-Q4_K_M.gguf"
REF = "hf:org/tiny-GGUF:Q4_K_M"
SOURCE = f"hf:org/tiny-GGUF/{NAME}"
PLACE = f"hf/org/tiny-GGUF/{DIGEST[:12]}/{NAME}"


@contextlib.contextmanager
def a_hub(control: Control, *nodes: LabNode) -> Iterator[Hub]:
    """A hub that the nodes reach and the control machine asks, with the genuine file."""
    with Hub(nodes[0].address.rpartition(".")[0] + ".1") as hub:
        hub.add("org/tiny-GGUF", {NAME: BYTES})
        control.env["HF_ENDPOINT"] = hub.endpoint
        control.inventory(*nodes, text='[timeouts]\ndownload_wait = "10ms"\ndownload_tries = 2\n')
        yield hub


def plant(node: LabNode, content: bytes = EVIL, place: str = PLACE, **said: object) -> Path:
    """A file in a node's store, with a note of its own making."""
    node.exec_local(f"mkdir -p '{STORE}/{place.rpartition('/')[0]}'")
    file = node.write(f"{STORE}/{place}", "")
    file.write_bytes(content)
    now = int(time.time())
    note = {"source": SOURCE, "revision": DIGEST, "sha256": hashlib.sha256(content).hexdigest()}
    note |= {"size": len(content), "fetched": now, "last_used": now, "verified": now}  # type: ignore[dict-item]
    node.write(f"{STORE}/{place}.json", json.dumps(note | said, separators=(",", ":")))
    return file


def of_hub(node: LabNode) -> Path:
    return node.outside(f"{STORE}/{PLACE}")


def test_a_pull_to_several_nodes_takes_no_other_file_from_one_of_them(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    honest, evil = make_node(), make_node()
    with a_hub(control, honest, evil) as hub:
        for said in (BAD, DIGEST):
            plant(evil, sha256=said)
            answer = control.rbee("--json", "models", "pull", REF, "--node", honest.name, "--node", evil.name)
            assert of_hub(honest).read_bytes() == BYTES, answer.stderr
            assert answer.returncode == 0, answer.stdout + answer.stderr
            assert {one["node"] for one in json.loads(answer.stdout)["pulled"]} == {honest.name, evil.name}
            rbee(control, "rm", PLACE, "--node", honest.name)
        assert f"what {evil.name} hands on" in answer.stderr
        assert of_hub(evil).read_bytes() == EVIL, "with a lie about its sum it is believed to have it"
        # With the truth it is not, and has fetched it.
        assert hub.bytes_sent == 2 * SIZE


def test_a_copy_replaces_no_file_and_gives_no_name(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    honest, evil = make_node(), make_node()
    with a_hub(control, honest, evil) as hub:
        rbee(control, "pull", REF, "--node", honest.name)
        plant(evil)
        (done,) = rbee(control, "copy", NAME, "--from", evil.name, "--to", honest.name)["models"]
        assert of_hub(honest).read_bytes() == BYTES
        assert done["path"] == f"{honest.home}/{STORE}/local/{BAD[:12]}/{NAME}"
        there = rbee(control, "list", "--node", honest.name)["models"]
        (copied,) = (one for one in there if one["id"] == BAD[:12])
        assert (copied["source"], copied["revision"], copied["told_by"]) == (SOURCE, None, evil.name)
        # Nor is it taken for the hub's file, or the user's, later.
        (again,) = rbee(control, "pull", REF, "--node", honest.name)["pulled"]
        assert (again["fetched"], again["path"]) == (False, f"{honest.home}/{STORE}/{PLACE}")
        mine = control.work / "mine.gguf"
        mine.write_bytes(BYTES)
        (pushed,) = rbee(control, "push", str(mine), "--node", honest.name)["models"]
        assert honest.outside(pushed["path"]).read_bytes() == BYTES
        assert hub.bytes_sent == SIZE
        assert rbee(control, "verify", "--node", honest.name)["models"][0]["state"] == "same"


def test_a_reference_means_what_the_hub_says_whoever_claims_to_have_it(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    honest, evil = make_node(), make_node()
    with a_hub(control, honest, evil):
        plant(evil)
        # Neither where the hub was asked before, nor where it was not.
        for _ in range(2):
            error = rbee(control, "copy", REF, "--to", honest.name, status=1)["error"]
            assert (error["code"], error["details"]["node"]) == ("MODEL_NOT_FOUND", evil.name)
            assert f"rbee models copy {BAD[:12]} --from {evil.name}" in error["hint"]
        # A lie about the sum is seen on arrival.
        plant(evil, sha256=DIGEST)
        error = rbee(control, "copy", REF, "--to", honest.name, status=1)["error"]
        assert error["code"] == "CHECKSUM_MISMATCH"
        assert rbee(control, "list", "--node", honest.name)["models"] == []
        # What is the hub's is handed on under its name.
        plant(evil, BYTES, revision="f" * 40)
        rbee(control, "copy", REF, "--to", honest.name)
        assert of_hub(honest).read_bytes() == BYTES
        (copied,) = rbee(control, "list", "--node", honest.name)["models"]
        assert (copied["source"], copied["told_by"]) == (SOURCE, None)
        assert copied["revision"] != "f" * 40


def test_without_the_hub_a_reference_is_what_a_node_says(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    honest, evil = make_node(), make_node()
    with a_hub(control, honest, evil):
        pass
    plant(evil)
    told = control.rbee("models", "copy", REF, "--to", honest.name, check=True)
    assert f"{evil.name} alone says that" in told.stderr
    (copied,) = rbee(control, "list", "--node", honest.name)["models"]
    assert (copied["path"].split("/")[-3], copied["told_by"]) == ("local", evil.name)
    # Another node's word does not make it the hub's there.
    error = rbee(control, "copy", REF, "--from", honest.name, "--to", evil.name, status=1)["error"]
    assert error["code"] == "MODEL_NOT_FOUND"


def test_digits_that_stand_elsewhere_in_a_note_are_no_sum(node: LabNode, control: Control) -> None:
    """As an earlier version left it: what arrived was summed there, and the origin's revision came along."""
    with a_hub(control, node) as hub:
        plant(node)
        mine = control.work / "mine.gguf"
        mine.write_bytes(BYTES)
        (pushed,) = rbee(control, "push", str(mine), "--node", node.name)["models"]
        assert node.outside(pushed["path"]).read_bytes() == BYTES
        rbee(control, "rm", pushed["path"], "--node", node.name)
        (pulled,) = rbee(control, "pull", REF, "--node", node.name)["pulled"]
        assert (pulled["fetched"], of_hub(node).read_bytes() == BYTES) == (True, True)
        assert hub.bytes_sent == SIZE


def test_verify_compares_with_what_is_known_here(node: LabNode, control: Control) -> None:
    with a_hub(control, node):
        rbee(control, "pull", REF, "--node", node.name)
        for known in (True, False):  # without it, by the place
            if not known:
                (control.home / ".local/state/rbee/registry.json").unlink()
            plant(node)
            (checked,) = rbee(control, "verify", status=1)["models"]
            assert checked["state"] == "differs", known
            # A note that was changed with it does not help.
            plant(node, sha256=DIGEST)
            assert rbee(control, "verify", status=1)["models"][0]["state"] == "differs"
        again = control.rbee("models", "verify")
        hint = again.stderr.partition("hint: ")[2].strip()
        for line in hint.split(" && "):
            assert control.rbee(*line.split()[1:]).returncode == 0, hint
        assert rbee(control, "verify")["models"][0]["state"] == "same"


def test_a_url_without_a_sum_is_fetched_by_each_node(
    make_node: Callable[..., LabNode], control: Control, tmp_path_factory: pytest.TempPathFactory
) -> None:
    honest, evil = make_node(), make_node()
    address, certificate = trusted(honest, control, tmp_path_factory.mktemp("tls"))
    for name in ("ca.pem", ".curlrc"):
        text = honest.outside(name).read_text().replace(honest.home, evil.home)
        evil.write(name, text)
    control.inventory(honest, evil)
    control.env["SSL_CERT_FILE"] = str(certificate)
    with Hub(address, tls=certificate) as hub:
        hub.add("org/any", {NAME: BYTES})
        url, names = f"{hub.cdn}/plain/{NAME}", ("--node", honest.name, "--node", evil.name)
        for reference, sent in ((url, 3), (f"{url}#sha256={DIGEST}", 2)):
            done = rbee(control, "pull", reference, *names)["pulled"]
            path = {one["node"]: one["path"] for one in done}
            rbee(control, "rm", NAME, "--node", honest.name)
            evil.outside(path[evil.name]).write_bytes(EVIL)
            rbee(control, "pull", reference, *names)
            assert honest.outside(path[honest.name]).read_bytes() == BYTES
            assert len([one for one in hub.fetches if one.sent > 4]) == sent
            hub.asked.clear()
            rbee(control, "rm", NAME, "--all")


def test_parts_of_one_model_do_not_come_under_another_ones_name(
    make_node: Callable[..., LabNode], control: Control
) -> None:
    """Its first part is the genuine one."""
    honest, evil = make_node(), make_node()
    control.inventory(honest, evil)
    names = [f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
    for name, content in zip(names, (BYTES, BYTES[:-1] + b"x"), strict=True):
        (control.work / name).write_bytes(content)
    for name, content in zip(names, (BYTES, EVIL), strict=True):
        plant(evil, content, f"local/{DIGEST[:12]}/{name}", source=str(control.work / name))
    rbee(control, "copy", DIGEST[:12], "--from", evil.name, "--to", honest.name)
    (pushed,) = rbee(control, "push", str(control.work / names[0]), "--node", honest.name)["models"]
    directory = honest.outside(pushed["path"]).parent
    assert {path.name: path.read_bytes() for path in directory.glob("*.gguf")} == {
        name: (control.work / name).read_bytes() for name in names
    }
    # Two nodes that have different models under these digits: the user says which one is meant.
    rbee(control, "rm", "big", "--node", honest.name, "--all")
    rbee(control, "push", str(control.work / names[0]), "--node", honest.name)
    error = rbee(control, "copy", DIGEST[:12], "--to", evil.name, "--to", honest.name, status=1)["error"]
    assert (error["code"], evil.name in error["message"]) == ("MODEL_AMBIGUOUS", True)


def test_what_an_earlier_version_took_over_is_not_served(
    node: LabNode, control: Control, engines: Engines
) -> None:
    """The genuine file is brought again: from the hub, and from here."""
    genuine = engines.model.read_bytes()
    evil = bytearray(genuine)
    evil[-1] ^= 1
    digest = sha256(engines.model)
    with a_hub(control, node) as hub:
        equip(control, engines, node)
        hub.add("org/smol-GGUF", {"smol.Q4_1.gguf": genuine})
        ways = {
            "hf:org/smol-GGUF": f"hf/org/smol-GGUF/{digest[:12]}/smol.Q4_1.gguf",
            str(engines.model): f"local/{digest[:12]}/{engines.model.name}",
        }
        for reference, place in ways.items():
            plant(node, bytes(evil), place, revision=digest)
            words = ("infer", "--context", "512", "--max-tokens", "4", *GREEDY, PROMPT)
            answer = control.rbee("--json", *words, "--model", reference)
            assert answer.returncode == 0 and text_of(answer), answer.stdout + answer.stderr
            assert sha256(node.outside(f"{STORE}/{place}")) == digest
            control.rbee("workers", "stop", "--all", "--now", check=True)
            rbee(control, "rm", digest[:12], "--node", node.name)
