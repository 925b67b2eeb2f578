"""`rbee infer` up to the moment where a node is asked, and what it makes of the events that come back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.cli.terminals import Screen, pipe

from rbee_ssh.cli import infer
from rbee_ssh.cli.console import Console
from rbee_ssh.cli.context import Cli
from rbee_ssh.workers.types import Done, InferRequest, Sampling, Started, Thinking, Token, WorkerRequest

EVENTS = (
    Started("gpu1", "tiny-3f9a", "tiny", "xllamacpp", True),
    Thinking("hm", 0),
    Token("It", 0),
    Token(" is.", 1),
    Done("length", 2, 30, 0.5, 40.0, 120.0),
)
INVENTORY = '[defaults]\nmodel = "file:///m.gguf"\n[nodes.localhost]\nhost = "localhost"\n'


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["-m", "m"], "USAGE_INVALID", "the prompt is empty"),
        (["-m", "m", "Why", "so"], "USAGE_INVALID", "in quotes"),
        (["Hi"], "USAGE_INVALID", "no model"),
        (["-m", "", "Hi"], "USAGE_INVALID", "no model"),
        (["-m", "m", "--raw", "--system", "s", "Hi"], "USAGE_INVALID", "--raw leaves out"),
        (["-m", "m", "--backend", "cude", "Hi"], "BACKEND_INVALID", 'did you mean "cuda"'),
        (["-m", "m", "--engine", "vllm", "Hi"], "USAGE_INVALID", "xllamacpp"),
        (["-m", "m", "--device", "0;reboot", "Hi"], "DEVICE_INVALID", "0,1"),
        (["-m", "m", "--node", "localhos", "Hi"], "NODE_UNKNOWN", "localhost"),
        (["-m", "m", "--inventory", "no.toml", "Hi"], "INVENTORY_NOT_FOUND", "no.toml"),
        (["-m", "m", "--json-schema", "no.json", "Hi"], "USAGE_INVALID", "no.json"),
        (["-m", "m", "--stop", "", "Hi"], "USAGE_INVALID", "--stop is empty"),
        (["-m", "m", b"a\xff"], "USAGE_INVALID", "not UTF-8"),
        (["-m", "m", "--system", b"a\xff", "Hi"], "USAGE_INVALID", "--system is not UTF-8"),
        (["-m", "m", "--stop", b"a\xff", "Hi"], "USAGE_INVALID", "--stop is not UTF-8"),
        (["-m", "m", "--seed", "-1", "Hi"], "USAGE_INVALID", "seed"),
        (["-m", "m", "--top-p", "inf", "Hi"], "USAGE_INVALID", "inf"),
        (["-m", "m", "--timeout", "soon", "Hi"], "USAGE_INVALID", "soon"),
        (["-m", "m", "--bogus", "Hi"], "USAGE_INVALID", "--bogus"),
        (["-m", "0123456789ab", "Hi"], "MODEL_REF_INVALID", "`models list`"),
    ],
)
def test_what_is_refused_before_a_node_is_asked(
    rbee: Callable[..., Any], args: list[str | bytes], code: str, words: str
) -> None:
    done = rbee("--json", "infer", *map(os.fsdecode, args))
    assert done.status == 2
    said = json.loads(done.stdout)
    assert said["event"] == "error"
    error = said["error"]
    assert (error["code"], words in error["message"]) == (code, True), error


def request(tmp_path: Path, *args: str, inventory: str = INVENTORY) -> InferRequest:
    """What these arguments ask for."""
    (tmp_path / "i.toml").write_text(inventory)
    cli = Cli()
    cli.inventory_path = str(tmp_path / "i.toml")
    with infer.infer.make_context("infer", list(args), obj=cli) as ctx:
        options = dict(ctx.params)
        return infer._request(cli, options.pop("words"), options.pop("prompt"), options)


def test_the_least_that_can_be_said(tmp_path: Path) -> None:
    assert request(tmp_path, "Hi") == InferRequest(WorkerRequest("file:///m.gguf"), "Hi")


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type":"object"}')
    said = "--prompt Hi -m tiny --node localhost --context 512 --parallel 2 --engine xllamacpp --backend cpu"
    said += " --device 0,1 --system Be --max-tokens 20 --temperature 0 --top-p 0.9 --top-k 40 --min-p 0.05"
    said += f" --seed 0 --stop a --stop b --timeout 5m --rm --json-schema {tmp_path / 's.json'}"
    assert request(tmp_path, *said.split()) == InferRequest(
        worker=WorkerRequest("tiny", "localhost", 512, 2, "xllamacpp", "cpu", "0,1"),
        prompt="Hi",
        system="Be",
        sampling=Sampling(20, 0.0, 0.9, 40, 0.05, 0, ("a", "b"), {"type": "object"}),
        timeout=300.0,
        remove=True,
    )


def test_a_prompt_may_look_like_an_option(tmp_path: Path) -> None:
    assert request(tmp_path, "--", "--json").prompt == "--json"
    assert request(tmp_path, "--raw", "--prompt=--json").raw


@pytest.fixture
def screens() -> Iterator[tuple[Screen, Screen]]:
    with pipe() as out, pipe() as err:
        yield out, err


def test_the_answer_as_text(screens: tuple[Screen, Screen]) -> None:
    out, err = screens
    emit = infer._text(Console(stdout=out.writer, stderr=err.writer, environ={}))
    for event in EVENTS:
        emit(event)
    assert out.text() == "It is."
    assert err.text() == (
        "hm\n2 tokens, cut at the limit, in 0.50 s · 40.0 tokens/s · first after 120 ms"
        " · tiny-3f9a on gpu1 (xllamacpp)\n"
    )


def test_the_answer_as_json(screens: tuple[Screen, Screen]) -> None:
    out, err = screens
    emit = infer._json_lines(Console(as_json=True, stdout=out.writer, stderr=err.writer, environ={}))
    for event in EVENTS:
        emit(event)
    lines = [json.loads(line) for line in out.text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "thinking", "token", "token", "done"]
    assert err.text() == ""


@pytest.mark.parametrize(
    ("done", "text"),
    [
        (Done("stop", 1, None, 12.5, 3.21, 80.4), "1 token in 12.50 s · 3.2 tokens/s · first after 80 ms"),
        (Done("stop", 0, 5, 61.0, 0.0, 61_000), "0 tokens in 61.00 s · 0.0 tokens/s · first after 1m01s"),
    ],
)
def test_the_line_below_an_answer(done: Done, text: str) -> None:
    assert infer.summary(done) == text
