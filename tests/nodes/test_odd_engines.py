"""Engines behind a real sshd that answer oddly: what came of the text, known codes, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import odd_engine
from nodes.lies import sound
from nodes.measured import MIB, Measured, measured
from nodes.serving import model
from nodes.test_start_errors import FAKE

from nodekit import Control, LabNode, NodeLab
from nodekit.engines import Engines

SERVES = """
while [ $# -gt 0 ]; do case $1 in --host) SOCKET=$2 ;; esac; shift; done
exec /usr/bin/python3 ~/odd_engine.py "$SOCKET"
"""


@pytest.fixture(scope="module")
def odd(lab: NodeLab) -> Iterator[tuple[LabNode, Control]]:
    """One node with one worker for all: how it misbehaves stands in the prompt."""
    node, control = lab.node(f"n{next(lab.names)}"), lab.control(f"c{next(lab.names)}")
    node.write("odd_engine.py", Path(odd_engine.__file__).read_text())
    node.write("llama-server", FAKE + SERVES, mode=0o755)
    home = node.exec_local("pwd").stdout.strip()
    control.inventory(
        node,
        every={"engine": "llama-server", "engine_path": f"{home}/llama-server"},
        text="[timeouts]\nbetween_tokens = 2\n",
    )
    yield node, control
    lab.remove(control)
    lab.remove(node)


def ask(odd: tuple[LabNode, Control], engines: Engines, prompt: str, *options: str) -> Measured:
    return measured(odd[1], *options, "infer", *model(engines), prompt, limit=100)


@pytest.mark.parametrize(
    ("prompt", "text", "code"),
    [
        ("half a JSON text", "a", "RESPONSE_INVALID"),
        ("a web page", "", "RESPONSE_INVALID"),
        ("no last line end", "ab", None),
        ("byte by byte", odd_engine.WORDS, None),
        ("a line of a gigabyte", "a", "RESPONSE_INVALID"),
        ("a header of a gigabyte", "", "RESPONSE_INVALID"),
        ("headers without end", "", "RESPONSE_INVALID"),
        ("nothing but promises", "", "RESPONSE_INVALID"),
        ("a chunk that never ends", "a", "WORKER_STALLED"),
        ("a line that never ends", "a", "WORKER_STALLED"),
        ("pings without end", "a", "WORKER_STALLED"),
        ("more than its length", "a", "RESPONSE_INVALID"),
        ("less than its length", "a", "WORKER_CRASHED"),
        ("a redirect", "", "RESPONSE_INVALID"),
        ("an error without end", "", "RESPONSE_INVALID"),
    ],
)
def test_an_answer_that_is_odd(
    odd: tuple[LabNode, Control], engines: Engines, prompt: str, text: str, code: str | None
) -> None:
    answer = sound(ask(odd, engines, prompt, "--json"))
    said = answer.events
    assert "".join(event["text"] for event in said if event.get("event") == "token") == text
    assert answer.codes == ({code} if code else set()), said[-1]
    assert answer.peak < 80 * MIB


def test_a_million_events(odd: tuple[LabNode, Control], engines: Engines) -> None:
    answer = sound(ask(odd, engines, "a million events"))
    assert answer.status == 0, answer.stderr
    assert answer.stdout == b"x" * odd_engine.MANY
    assert f"{odd_engine.MANY} tokens".encode() in answer.stderr
    assert answer.peak < 80 * MIB
