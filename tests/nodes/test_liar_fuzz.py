"""True answers of a node, changed at random: whatever they become, every command ends with an end we know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from nodes.inside import inside
from nodes.liar import Asked, Liar, answering, lying
from nodes.lies import COMMANDS, ESCAPES, TIMEOUTS, sound

from nodekit import Control, NodeLab
from nodekit.fuzz import examples

ASKED = sorted(COMMANDS)
NASTY = st.sampled_from(
    [
        *("", "-1", "1" + "0" * 30, "9" * 5000, "NaN", "1e999", "²", "[N/A]", "0", "24576 MiB"),
        *("-rf", "../..", "/", "~", "\0", ESCAPES, "\\u001b[2J\\ud800"),
        *("{", "[" * 5000, "{}", "[]", '"', "null", "end", "worker", "Darwin", "a,b,c"),
        *("dead", "failed", "starting", "loading", "busy", "stopping", "missing", "invalid"),
    ]
)
TEXTS = NASTY | st.text(max_size=12)


def _field(line: str, text: str) -> list[str]:
    """Another value in the place of one of a line's."""
    fields = line.split("\t")
    fields[len(text) % len(fields)] = text
    return ["\t".join(fields)]


# What becomes of a line.
EDITS: dict[str, Callable[[str, str], list[str]]] = {
    "drop": lambda line, text: [],
    "double": lambda line, text: [line, line],
    "field": _field,
    "value": lambda line, text: [line.partition("\t")[0] + "\t" + text],
    "insert": lambda line, text: [text, line],
    "digits": lambda line, text: [re.sub("[0-9]+", lambda found: text[:40], line)],
    "no tab": lambda line, text: [line.replace("\t", "", 1)],
    "break": lambda line, text: [line[: len(line) // 2], line[len(line) // 2 :]],
}
LIES = st.lists(st.tuples(st.sampled_from(sorted(EDITS)), st.integers(0, 200), TEXTS), min_size=1, max_size=6)


def told(truth: bytes, lies: Sequence[tuple[str, int, str]]) -> bytes:
    lines = truth.decode().split("\n")
    for kind, at, text in lies:
        if lines:
            at %= len(lines)
            lines[at : at + 1] = EDITS[kind](lines[at], text)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def there(lab: NodeLab) -> Iterator[tuple[Liar, Control]]:
    """One node and one home for all examples: a registry that has seen every lie before."""
    control = lab.control(f"c{next(lab.names)}")
    with Liar() as liar:
        liar.known_to(control, text=TIMEOUTS.replace("start = 5", "start = 20"))
        yield liar, control
    lab.remove(control)


def ends(control: Control, command: str, as_json: bool) -> None:
    """Asked in text or JSON, a command ends as it should."""
    raw = not as_json and command in ("run", "logs", "infer")
    answer = sound(inside(control, *(["--json"] if as_json else []), *COMMANDS[command]), raw=raw)
    event(f"{command}: {answer.status}")
    if as_json:
        for line in answer.stdout.splitlines():
            json.loads(line)


@examples(80)
@given(LIES, st.sampled_from(ASKED), st.booleans())
def test_true_answers_with_changes(
    there: tuple[Liar, Control], lies: list[tuple[str, int, str]], command: str, as_json: bool
) -> None:
    liar, control = there
    liar.behaviour = lying(lambda truth: told(truth, lies))
    liar.socket = answering('{"choices":[{"delta":{"content":"a"}}]}')
    ends(control, command, as_json)


@examples(40)
@given(st.binary(max_size=400), st.integers(0, 255), st.sampled_from(ASKED), st.booleans())
def test_any_bytes(
    there: tuple[Liar, Control], said: bytes, status: int, command: str, as_json: bool
) -> None:
    liar, control = there
    liar.behaviour = lying(lambda truth: said, status)
    if command != "run":  # its output and status are the command's own, and passed on
        ends(control, command, as_json)


async def gone(asked: Asked) -> None:
    """A worker that was ready when it was looked for, and is dead when it did not answer as it should."""
    truth = asked.truth
    if "rbee_new" not in asked.script and "section\\tfacts" not in asked.script:
        truth = truth.replace(b"state\tidle", b"state\tdead")
    asked.say(asked.mark + truth)
    asked.process.exit(0)


HTTP = st.lists(
    st.sampled_from(
        [
            *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 No\r\n", b"HTTP/1.1 100 Go\r\n"),
            *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n"),
            *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"data: ", b"\n\n", b": ping\n\n", b"event: error\n"),
            *(b'{"choices":[{"delta":{"content":"a"}}]}', b"[DONE]", b"\xff\x00", b"{}", b"[" * 2000),
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
)


@examples(40)
@given(st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\ndata: "]), HTTP, st.booleans())
def test_any_engine(there: tuple[Liar, Control], head: bytes, pieces: list[bytes], as_json: bool) -> None:
    liar, control = there
    liar.behaviour = gone
    liar.socket = answering(raw=b"".join([head, *pieces]))
    ends(control, "infer", as_json)
