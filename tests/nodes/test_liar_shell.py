"""Shells that misbehave: known codes, bounded memory and time, nothing raw for a terminal."""

from __future__ import annotations

import asyncio

import pytest
from nodes.liar import WORKER, Asked, Behaviour, Liar, lying
from nodes.lies import COMMANDS, ESCAPES, FEW, GARBAGE, ask

from nodekit import Control


async def garbage(asked: Asked) -> None:
    asked.say(GARBAGE)
    asked.process.exit(0)


async def endless_noise(asked: Asked) -> None:
    await asked.say_on(b"blah blah\n" * 3000)


async def endless_output(asked: Asked) -> None:
    asked.say(asked.mark)
    await asked.say_on(b"key\tvalue\n" * 3000)


async def a_line_of_a_gigabyte(asked: Asked) -> None:
    asked.say(asked.mark)
    await asked.say_on(b"x" * 32_768, 2**15)


async def half_a_mark_and_silence(asked: Asked) -> None:
    asked.say(asked.mark[:9])
    await asyncio.sleep(60)


async def half_a_mark(asked: Asked) -> None:
    asked.say(asked.mark[:9])
    asked.process.exit(0)


async def nothing(asked: Asked) -> None:
    asked.process.exit(0)


async def no_status(asked: Asked) -> None:
    asked.say(asked.mark + asked.truth)
    asked.process.close()


async def cut(asked: Asked) -> None:
    asked.say(asked.mark + asked.truth[:9])
    await asked.process.stdout.drain()
    asked.process.channel.get_connection().abort()


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (garbage, "SHELL_UNUSABLE"),
        (lying(lambda truth: GARBAGE), "RESPONSE_INVALID"),
        (endless_noise, "SHELL_UNUSABLE"),
        (endless_output, "RESPONSE_INVALID"),
        (a_line_of_a_gigabyte, "RESPONSE_INVALID"),
        (half_a_mark_and_silence, "SHELL_UNUSABLE"),
        (half_a_mark, "SHELL_UNUSABLE"),
        (lying(lambda truth: truth[: len(truth) // 2]), "RESPONSE_INVALID"),
        (nothing, "SHELL_UNUSABLE"),
        (lying(lambda truth: b"", 3), "RESPONSE_INVALID"),
        (no_status, "CONNECTION_LOST"),
        (cut, "CONNECTION_LOST"),
    ],
    ids=[
        *("garbage", "garbage behind the mark", "endless noise", "endless output", "a line of a gigabyte"),
        *("half a mark and silence", "half a mark", "half an answer", "nothing", "nothing but a status"),
        *("no status", "cut"),
    ],
)
def test_a_shell_that_misbehaves(liar: Liar, control: Control, behaviour: Behaviour, code: str) -> None:
    liar.behaviour = behaviour
    answers = ask(control, FEW, "--json")
    assert answers["models"].codes == {code}
    assert answers["infer"].codes <= {code, "ENGINE_MISSING", "MODEL_NOT_FOUND"}
    assert answers["infer"].status == 1


async def a_signal(asked: Asked) -> None:
    asked.say(asked.mark + asked.truth)
    asked.process.exit_with_signal("KILL", msg=ESCAPES)


def test_every_command_of_a_script_that_a_signal_ends(liar: Liar, control: Control) -> None:
    liar.behaviour = a_signal
    answers = ask(control, list(COMMANDS), "--json")
    assert answers["logs"].codes == {"RESPONSE_INVALID"}
    assert answers["run"].status == 137
    assert answers["status"].events[0]["nodes"][0]["state"] == "up"


async def errors_in_the_way(asked: Asked) -> None:
    """More on stderr than any window holds, before the answer and behind it."""
    asked.say(asked.mark)
    await asked.say_on(b"e" * 32_768, 200, error=True)
    asked.say(asked.truth)
    await asked.say_on(b"\x1b[2J" * 8192, 200, error=True)
    asked.process.exit(0)


def test_an_answer_among_megabytes_of_errors(liar: Liar, control: Control) -> None:
    liar.behaviour = errors_in_the_way
    answers = ask(control, ["status", "list", "logs", "models"], "--json")
    assert answers["status"].events[0]["nodes"][0]["state"] == "up"
    assert answers["list"].events[0]["workers"][0]["id"] == WORKER
    assert answers["logs"].events == [{"line": "main: model loaded"}]
    assert answers["models"].codes == set()
