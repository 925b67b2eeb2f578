"""Output that is passed on as it comes, of nodes that do not stop, or say nothing."""

from __future__ import annotations

import asyncio

import pytest
from nodes.inside import inside
from nodes.liar import Asked, Behaviour, Liar, honest
from nodes.lies import COMMANDS, sound
from nodes.measured import MIB, measured

from nodekit import Control
from rbee_ssh.workers import logs


# What reads a log, as the node answers honestly to everything else.
def tail(behaviour: Behaviour) -> Behaviour:
    async def either(asked: Asked) -> None:
        await (behaviour if "rbee_show" not in asked.script else honest)(asked)

    return either


async def endless_pieces(asked: Asked) -> None:
    asked.say(asked.mark)
    await asked.say_on(b"x" * 32_768)


async def silence(asked: Asked) -> None:
    asked.say(asked.mark)
    await asyncio.sleep(60)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_log_without_an_end(liar: Liar, control: Control, options: tuple[str, ...]) -> None:
    liar.behaviour = tail(endless_pieces)
    answer = sound(measured(control, *options, *COMMANDS["logs"]))
    assert answer.status == 1
    assert logs.MAX_LOG <= len(answer.stdout) < 2 * logs.MAX_LOG
    assert b"cannot be read" in answer.stdout[-500:] + answer.stderr


def test_a_log_that_does_not_come(liar: Liar, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PATIENCE", 0.3)
    liar.behaviour = tail(silence)
    answer = sound(inside(control, "--json", *COMMANDS["logs"]))
    assert answer.codes == {"RESPONSE_INVALID"}
    assert "does not end" in answer.events[0]["error"]["message"]


def test_a_command_whose_output_is_one_line_of_16_mib(liar: Liar, control: Control) -> None:
    async def long(asked: Asked) -> None:
        asked.say(asked.mark)
        await asked.say_on(b"x" * 32_768, 512)
        asked.process.exit(0)

    liar.behaviour = long
    answer = sound(measured(control, "--json", *COMMANDS["run"]))
    assert sum(len(event.get("line", "")) for event in answer.events) == 16 * MIB
    assert answer.peak < 65 * MIB, "it is passed on in pieces"
