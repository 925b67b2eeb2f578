"""Whatever a user types or writes: it arrives unharmed at the node, or is refused with the right code."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from nodes.inside import inside
from nodes.liar import MODEL, NAME, Asked, Liar
from nodes.lies import ESCAPES, sound
from nodes.measured import Measured

from nodekit import Control, NodeLab
from nodekit.fuzz import examples

NASTY = (
    *("", " ", "-", "--", "-n", "--help", "a b", "'", '"', "`id`", "$(touch owned)", ";", "|", "&", "#", "="),
    *("\n", "\r", "a\nb", "\\", "~", "*", "!!", "%s", "{}", "é", "🐝", "\u202e", ESCAPES.replace("\0", "")),
)
# What argv can hold: any bytes but NUL, those that are not UTF-8 as lone surrogates.
RAW = st.lists(st.integers(1, 255), max_size=12).map(bytes)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ARGV = st.sampled_from(NASTY) | WORDS | RAW.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
# What a TOML file can hold.
TEXTS = st.sampled_from([*NASTY, "\0"]) | st.text(st.characters(codec="utf-8"), max_size=20)
BACKSLASH = "\\"
SSE = b'HTTP/1.1 200 OK\r\n\r\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'


class Recorder:
    """A node that answers honestly, and remembers the scripts and the requests."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.scripts: list[str] = []
        self.bodies: list[bytes] = []

    async def shell(self, asked: Asked) -> None:
        self.scripts.append(asked.script)
        asked.say(asked.mark + asked.truth.replace(b"/home/ada", str(self.home).encode()))
        asked.process.exit(0)

    async def socket(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: ([0-9]+)", head)[0])
        self.bodies.append(await reader.readexactly(length))
        writer.write(SSE)
        writer.close()

    def arguments(self, sign: str) -> list[str]:
        """What the last script of this kind is given, as a real sh reads it."""
        script = next(script for script in reversed(self.scripts) if sign in script)
        head = script.partition("\nprintf '\\n%s\\n' rbee-")[0]
        text = head + '\nfor a in "$@"; do printf "%s\\0" "$a"; done\n}\nrbee_main\n'
        raw = text.encode("utf-8", "surrogateescape")
        said = subprocess.run(["sh"], input=raw, capture_output=True, check=True).stdout
        return said.decode("utf-8", "surrogateescape").split("\0")[:-1]


Fresh = tuple[Liar, Control, Recorder]


@pytest.fixture(scope="module")
def node(lab: NodeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    control = lab.control(f"c{next(lab.names)}")
    recorder = Recorder(tmp_path_factory.mktemp("ada"))
    with Liar(recorder.shell) as liar:
        liar.socket = recorder.socket
        liar.known_to(control)
        yield liar, control, recorder
    lab.remove(control)


def refused(answer: Measured) -> bool:
    """Whether it was wrong usage, said in a way that steers no terminal."""
    sound(answer)
    event(f"status {answer.status}")
    return answer.status == 2


@examples(60)
@given(ARGV)
@example("\0")
def test_any_prompt(node: Fresh, prompt: str) -> None:
    _, control, recorder = node
    recorder.bodies.clear()
    if refused(inside(control, "--json", "infer", "--model", MODEL, "--prompt", prompt)):
        assert not prompt.strip() or not prompt.isascii(), "an empty one, or bytes that are not UTF-8"
        with pytest.raises(ValueError) if prompt.strip() else pytest.raises(AssertionError):
            prompt.encode()
            assert prompt.strip()
    else:
        assert json.loads(recorder.bodies[-1])["messages"][-1]["content"] == prompt


@examples(60)
@given(ARGV)
@example("/")
@example("./a/../b")
def test_any_model_path(node: Fresh, path: str) -> None:
    _, control, recorder = node
    recorder.scripts.clear()
    answer = inside(control, "--json", "models", "show", f"file:///m/{path}.gguf")
    if refused(answer):
        assert answer.codes == {"MODEL_REF_INVALID"} and recorder.scripts == []
    else:
        # One spelling for one file: two would be two workers.
        parts = [part for part in f"m/{path}.gguf".split("/") if part not in ("", ".")]
        assert "/" + "/".join(parts) in recorder.arguments("section\\tfacts")


COMMANDS = (
    ("nodes", "status", "--node", "{}"),
    ("nodes", "status", "--tag", "{}"),
    ("nodes", "remove", "{}"),
    ("nodes", "trust", "{}"),
    ("workers", "list", "--node", "{}"),
    ("workers", "logs", "{}"),
    ("workers", "stop", "{}"),
    ("models", "show", "{}"),
    ("models", "verify", "{}"),
    ("models", "rm", "{}"),
    ("infer", "--node", "{}", "--model", MODEL, "hi"),
    ("infer", "--model", MODEL, "--backend", "{}", "hi"),
    ("infer", "--model", MODEL, "--device", "{}", "hi"),
    ("infer", "--model", MODEL, "--engine", "{}", "hi"),
    ("infer", "--model", MODEL, "--max-tokens", "{}", "hi"),
    ("infer", "--model", MODEL, "--stop", "{}", "hi"),
    ("infer", "--model", MODEL, "--json-schema", "{}", "hi"),
    ("{}", "list"),
    ("nodes", "{}"),
    ("--inventory", "{}", "nodes", "list"),
)


@examples(120)
@given(st.sampled_from(COMMANDS), ARGV, st.booleans())
def test_any_word(node: Fresh, command: tuple[str, ...], word: str, as_json: bool) -> None:
    _, control, _ = node
    words = [part.replace("{}", word) for part in command]
    answer = sound(inside(control, *(["--json"] if as_json else []), *words))
    told = ", ".join(answer.codes) if as_json and answer.status else ""  # --help is no JSON
    event(f"{' '.join(command)}: {answer.status} {told}")


KEYS = st.sampled_from(["models_dir", "engine_path", "python", "host", "user", "tags"])


@examples(60)
@given(
    st.dictionaries(KEYS, TEXTS, max_size=2),
    st.dictionaries(st.sampled_from(["A", "GGML_X", "PATH"]) | TEXTS, TEXTS, max_size=2),
    st.lists(TEXTS, max_size=3),
)
def test_any_value_of_an_inventory(
    node: Fresh, keys: dict[str, str], env: dict[str, str], args: list[str]
) -> None:
    """It is refused with its line; or the probe and the engine get each value as it was written."""
    liar, control, recorder = node
    recorder.scripts.clear()
    table: dict[str, Any] = {"host": "127.0.0.1", "port": liar.port, "user": "me", "env": env}
    table |= {key: [text] if key == "tags" else text for key, text in keys.items()}
    listed = ", ".join(f'"""{"".join(f"{BACKSLASH}U{ord(c):08x}" for c in arg)}"""' for arg in args)
    control.inventory(
        nodes_also={NAME: table},
        text="[timeouts]\nconnect_tries = 1\nconnect = 2\n"
        f'[models.m]\nsource = "file:///m.gguf"\nargs = [{listed}]\n',
        trust=False,
    )
    answer = inside(control, "--json", "workers", "start", "--model", "m", "--node", NAME)
    liar.known_to(control)
    if refused(answer):
        # The last: a user that no SSH client can put into a login (SASLprep).
        assert answer.codes <= {"INVENTORY_INVALID", "USAGE_INVALID", "SSH_CONFIG_INVALID"}
        if answer.codes == {"INVENTORY_INVALID"}:
            assert all(fault["line"] for fault in answer.events[0]["error"]["details"]["faults"])
    elif answer.status == 0:
        told = recorder.arguments("section\\tfacts")
        for key, text in keys.items():
            assert key in ("tags", "host", "user") or text in told
        assert {f"env:{name}={text}" for name, text in env.items()} <= set(told)
        (run_sh,) = (word[4:] for word in recorder.arguments("rbee_new") if word.startswith("run="))
        words, environment = started(recorder.home, run_sh)
        assert words[len(words) - len(args) :] == args
        assert {f"{name}={text}" for name, text in env.items()} <= environment


def started(home: Path, run_sh: str) -> tuple[list[str], set[str]]:
    """The arguments and the environment of the engine that run.sh becomes, in a real sh."""
    engine = home / "llama.cpp/build/bin/llama-server"
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_text('#!/bin/sh\nprintf "%s\\0" "$#" "$@"\nexec /usr/bin/env -0\n')
    engine.chmod(0o755)
    directory = Path(re.findall(r"[^ '\n]+/workers/[0-9a-f]{12}", run_sh)[0])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "key").write_text("k")
    said = subprocess.run(["sh"], input=run_sh.encode(), capture_output=True, check=True, env={})
    count, *words = said.stdout.decode().split("\0")
    return words[: int(count)], set(words[int(count) :])


TOML = st.text("[]{}=.,#'\"\\nodes.a host1\n\x1b\x9b", max_size=120).map(str.encode)


@examples(100)
@given(st.binary(max_size=200) | TOML, st.booleans())
def test_any_inventory(node: Fresh, data: bytes, as_json: bool) -> None:
    _, control, _ = node
    path = control.home / "any.toml"
    path.write_bytes(data)
    path.chmod(0o600)
    words = ["--inventory", str(path), *(["--json"] if as_json else []), "nodes", "list"]
    answer = inside(control, *words)
    if refused(answer):
        assert b"any.toml" in answer.stdout + answer.stderr
        assert not as_json or answer.codes == {"INVENTORY_INVALID"}
