"""Answers that have the form of answers, and lie: floods, escapes, numbers and paths that are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nodes.liar import WORKER, Liar, answering, lying
from nodes.lies import COMMANDS, ESCAPES, ask, sound
from nodes.measured import MIB, measured

from nodekit import Control


def flood(line: str, end: str = "", *, start: str = "") -> Callable[[bytes], bytes]:
    """As many lines as are let through, each with another number."""
    return lambda truth: (
        start + "".join(line % n for n in range(3_900_000 // len(line % 10**6))) + end
    ).encode()


@pytest.mark.parametrize(
    "lie",
    [
        flood("worker\t%08x\nend\t\n", "section\tfacts\n"),
        flood("%x\t\n", "end\tab\nsection\tfacts\n", start="worker\tab\n"),
        flood("kept\t%06x\t\n"),
        flood("\n%.0s"),
        flood("log\tabc%.0s\n", "end\tab\n", start="worker\tab\nstate\tfailed\n"),
        flood("%s\t", start="worker\tab\nmatch\t"),
    ],
    ids=["workers", "keys", "results", "empty lines", "log", "one long line"],
)
def test_a_flood_of_small_things(liar: Liar, control: Control, lie: Callable[[bytes], bytes]) -> None:
    liar.behaviour = lying(lie)
    ask(control, ["status", "stop all", "cleanup"])


def test_as_many_workers_as_are_let_through_are_not_all_remembered(liar: Liar, control: Control) -> None:
    many = "".join(f"worker\t{n:08x}\nend\t\n" for n in range(24_000)).encode()
    liar.behaviour = lying(lambda truth: many)
    listed = sound(measured(control, "--json", "workers", "list")).events[0]["workers"]
    assert len(listed) == 1000
    assert (control.home / ".local/state/rbee/registry.json").stat().st_size < MIB


def replaced(*pairs: tuple[str, str]) -> Callable[[bytes], bytes]:
    def lie(truth: bytes) -> bytes:
        for old, new in pairs:
            truth = truth.replace(old.encode(), new.encode())
        return truth

    return lie


def test_escapes_everywhere(liar: Liar, control: Control) -> None:
    """In names, paths, the system, GPUs, logs and notes; as bytes, and as escapes of JSON."""
    escaped = "".join(f"\\u{ord(c):04x}" for c in ESCAPES)
    hostile = replaced(
        ("ada", f"a{ESCAPES}"),
        ("GeForce", ESCAPES),
        ("Linux", ESCAPES),
        ("loaded", ESCAPES),
        ("tiny", ESCAPES),
        ('"file:///m', f'"{escaped}\\ud800'),
        ('"tiny', f'"{escaped}'),
        ("said", "s"),
    )
    liar.behaviour = lying(hostile)
    liar.socket = answering('{"choices":[{"delta":{"content":"' + escaped + '"}}]}')
    ask(control, ["status", "check", "list", "models", "show", "stop"])
    answers = ask(control, list(COMMANDS), "--json")
    assert answers["infer"].events[1]["text"] == ESCAPES, "escaped in JSON, and not lost"
    assert answers["logs"].events[0]["line"].endswith(ESCAPES)
    text = measured(control, *COMMANDS["infer"])
    assert (text.status, text.stdout.decode()) == (0, ESCAPES), "into a pipe an answer goes as it is"


NUMBERS = ("-1", "1" + "0" * 30, "", "²", "9" * 18, "9" * 5000)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_are_none(liar: Liar, control: Control, number: str) -> None:
    def lie(truth: bytes) -> bytes:
        text = truth.decode()
        for told in ("24576", "23888", "65775236", "60000000", "510957180", "1760000000", "98362432", "12.5"):
            text = text.replace(told, number)
        for key in ("cpus", "uid", "idle", "lease", "pid", "memory", "cpu", "port"):
            text = "\n".join(
                f"{key}\t{number}" if line.startswith(f"{key}\t") else line for line in text.split("\n")
            )
        return text.encode()

    liar.behaviour = lying(lie)
    answers = ask(control, ["status", "check", "show"], "--json")
    ask(control, ["list", "models"])
    (node,) = answers["status"].events[0]["nodes"]
    for value in (*(node[key] for key in node if key.endswith("_bytes")), node["cpus"]):
        assert value is None or value >= 0


@pytest.mark.parametrize(
    "lie",
    [
        replaced(
            ("systemd\t", "".join(f"nvidia\t{n}, G{n}, 24576, 23888, 5\n" for n in range(1000)) + "systemd\t")
        ),
        lambda truth: truth * 3,
        lambda truth: b"\n".join(line for line in truth.split(b"\n") if b"\t" not in line),
        lambda truth: b"\n".join(reversed(truth.split(b"\n"))),
        lambda truth: truth.replace(b"\t", b"\t\t"),
        lambda truth: truth.replace(b"\n", b"\r\n"),
        lambda truth: truth.replace(b"{", b"[" * 9999),
        lambda truth: truth.replace(b"/home/ada", b"/home/\\n\xff\x00; touch /tmp/owned; $(id)"),
        replaced(("/home/ada", "-rf"), (f"{WORKER}\n", "../../etc\n")),
    ],
    ids=["1000 GPUs", "all thrice", "no keys", "backwards", "two tabs", "CRLF", "deep JSON", "paths", "ids"],
)
def test_facts_that_are_wrong(liar: Liar, control: Control, lie: Callable[[bytes], bytes]) -> None:
    liar.behaviour = lying(lie)
    liar.socket = answering()
    ask(control, ["check", "logs", "show", "infer"], "--json")
    ask(control, ["list"])


def test_a_path_with_nul_is_the_nodes_fault(liar: Liar, control: Control) -> None:
    liar.behaviour = lying(replaced(("/home/ada", "/home/\0")))
    assert "USAGE_INVALID" not in sound(measured(control, "--json", *COMMANDS["logs"])).codes
