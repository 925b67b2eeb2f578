"""A model's header that a node sends without an end, or not at all."""

from __future__ import annotations

import asyncio
import struct

import pytest
from nodes.inside import inside
from nodes.liar import HEADER, Asked, Behaviour, Liar, lying
from nodes.lies import COMMANDS, sound
from nodes.measured import measured
from unit.models.gguf_files import string, write

from nodekit import Control
from rbee_ssh.models import header

# The vocabulary of four thousand million words.
HEAD = write({"general.architecture": "llama", "tokenizer.ggml.tokens": ["a"]})[:-9]
HEAD = HEAD[:-8] + struct.pack("<Q", 2**32)
SHORT = lying(
    lambda truth: truth.replace(HEADER.hex().encode(), HEAD.hex().encode()).replace(b"98362432", b"9" * 12)
)


def sending(behaviour: Behaviour) -> Behaviour:
    """What the node does when the rest of the header is asked for."""

    async def either(asked: Asked) -> None:
        await (behaviour if "head -c" in asked.script.partition("rbee-")[2][:80] else SHORT)(asked)

    return either


async def words(asked: Asked) -> None:
    asked.say(asked.mark + HEAD)
    await asked.say_on(string("ab" * 500) * 30)


async def silence(asked: Asked) -> None:
    asked.say(asked.mark + HEAD)
    await asyncio.sleep(60)


def test_a_vocabulary_without_an_end(liar: Liar, control: Control) -> None:
    liar.behaviour = sending(words)
    answer = sound(measured(control, "--json", *COMMANDS["show"]))
    assert answer.codes == {"MODEL_INVALID"}
    assert "longer than" in answer.events[0]["error"]["message"]


def test_a_header_that_does_not_come(liar: Liar, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "READ_SECONDS", 0.5)
    liar.behaviour = sending(silence)
    assert sound(inside(control, "--json", *COMMANDS["show"])).codes == {"RESPONSE_INVALID"}
