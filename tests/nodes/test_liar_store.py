"""Nodes that are given a model, or asked for theirs, and do not go on."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from hubkit import Hub
from nodes.inside import inside
from nodes.liar import STORE, Asked, Behaviour, Liar, honest, lying
from nodes.lies import GARBAGE, TIMEOUTS, sound
from nodes.measured import Measured, measured

from nodekit import Control
from rbee_ssh.models import receiver

BYTES = b"GGUF" + bytes(8 * 2**20)


@pytest.fixture
def model(control: Control) -> Path:
    """More than the window of a channel and every buffer on the way hold."""
    path = control.work / "large.gguf"
    path.write_bytes(BYTES)
    return path


async def takes_nothing(asked: Asked) -> None:
    if "rbee_receive" not in asked.script:
        return await honest(asked)
    asked.say(asked.mark + b"have\t0\nfree\t99999999\n")
    await asyncio.sleep(60)


async def takes_all_and_says_nothing(asked: Asked) -> None:
    if "rbee_receive" not in asked.script:
        return await honest(asked)
    asked.say(asked.mark + b"have\t0\nfree\t99999999\n")
    while await asked.process.stdin.read(65536):
        pass
    await asyncio.sleep(60)


async def says_nothing(asked: Asked) -> None:
    asked.say(asked.mark)
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        (takes_nothing, "CONNECTION_LOST", "took nothing"),
        (takes_all_and_says_nothing, "CONNECTION_LOST", "took nothing"),
        (says_nothing, "RESPONSE_INVALID", "not ready"),
    ],
)
def test_a_file_is_not_pushed_for_ever(
    liar: Liar,
    control: Control,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: Behaviour,
    code: str,
    words: str,
) -> None:
    liar.known_to(control, text=TIMEOUTS + "download_stall = 0.5\n")
    monkeypatch.setattr(receiver, "ANSWER", 0.5)
    liar.behaviour = behaviour
    answer = sound(inside(control, "--json", "models", "push", str(model)))
    assert answer.codes == {code}
    assert words in str(answer.events)


async def lies_about_its_sum(asked: Asked) -> None:
    if "rbee_receive" not in asked.script:
        return await honest(asked)
    asked.say(asked.mark + b"have\t0\nfree\t99999999\n")
    while await asked.process.stdin.read(65536):
        pass
    asked.say(f"received\t{len(BYTES)}\nsha256\t{hashlib.sha256(b'x').hexdigest()}\x1b[2J\n".encode())
    asked.process.exit(0)


def test_a_sum_that_is_a_lie(liar: Liar, control: Control, model: Path) -> None:
    liar.behaviour = lies_about_its_sum
    assert sound(inside(control, "--json", "models", "push", str(model))).codes == {"CHECKSUM_MISMATCH"}


def test_a_model_is_not_verified_for_ever(
    liar: Liar, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "SUM_SECONDS", 0.5)
    summed = STORE.replace('"last_used"', '"sha256": "' + "0" * 64 + '", "last_used"')

    async def reads(asked: Asked) -> None:
        if "rbee_list" in asked.script:
            asked.say(asked.mark + summed.encode())
            return asked.process.exit(0)
        await says_nothing(asked)

    liar.behaviour = reads
    answer = sound(inside(control, "--json", "models", "verify"))
    assert answer.status == 1
    assert "nothing came" in json.dumps(answer.events)


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        (b"", {"RESPONSE_INVALID"}),
        (GARBAGE, {"RESPONSE_INVALID"}),
        (b"at\t1\tdreaming\n", {"RESPONSE_INVALID"}),
        (b"key\tvalue\n" * 400_000, {"RESPONSE_INVALID"}),
        ("at\t²\tfailed network 1 curl 7 ²\n".encode(), {"DOWNLOAD_FAILED"}),
        (b"at\t1\tfailed network " + b"9" * 5000 + b"\n", {"DOWNLOAD_FAILED"}),
        (b"at\t" + b"9" * 5000 + b"\tdone\nfile\t1\t2\trelative\x1b[2J\n", set()),
        (b"problem\tshort\t" + b"9" * 5000 + b"\t-1\n", {"DISK_SHORT"}),
        (b"locked\t\x1b[2J\n", {"NODE_LOCKED"}),
    ],
    ids=["nothing", "garbage", "another word", "a flood", "superscript", "digits", "done", "short", "locked"],
)
def test_a_fetch_that_lies(liar: Liar, control: Control, said: bytes, codes: set[str]) -> None:
    async def fetches(asked: Asked) -> None:
        asked.say(asked.mark + said)
        asked.process.exit(0)

    liar.behaviour = fetches
    answer = sound(pulled(control))
    assert answer.codes == codes or not codes


def pulled(control: Control, limit: float = 30) -> Measured:
    with Hub("127.0.0.1") as hub:
        hub.add("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": BYTES[:100]})
        control.env["HF_ENDPOINT"] = hub.endpoint
        return measured(control, "--json", "models", "pull", "hf:org/tiny-GGUF:Q4_K_M", limit=limit)


def test_a_fetch_that_is_always_under_way_is_not_asked_about_without_a_pause(
    liar: Liar, control: Control
) -> None:
    liar.behaviour = lying(lambda truth: b"at\t1\tfetching 1\n")
    assert pulled(control, limit=3).status == -9
    assert liar.asked < 9
