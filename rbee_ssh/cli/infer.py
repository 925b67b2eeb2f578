"""`rbee infer`: a prompt in, tokens out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli import prompt as prompts
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import DURATION, command
from rbee_ssh.cli.prompt import read_schema
from rbee_ssh.cli.text import span
from rbee_ssh.cli.worker_options import worker_options, worker_request
from rbee_ssh.errors import UsageInvalid

if TYPE_CHECKING:
    from rbee_ssh.cli.console import Console
    from rbee_ssh.workers.types import Done, Event, InferRequest

_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop")
_WORKER = ("model", "node", "context", "parallel", "engine", "backend", "device", "no_evict")


class Number(click.FloatRange):
    """A finite number in a range; click lets "nan" through every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


@command(short_help="Answer a prompt: stream tokens to stdout.", events=True)
@click.argument("words", metavar="[PROMPT]", nargs=-1)
@click.option("--prompt", metavar="TEXT", help="The prompt, in place of the argument.")
@worker_options
@click.option("--system", metavar="TEXT", help="A system message.")
@click.option("--raw", is_flag=True, help="Plain completion, without the model's chat template.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Stop after so many tokens.")
@click.option("--temperature", type=Number(min=0), metavar="T", help="0 takes the likeliest token each time.")
@click.option(
    "--top-p", type=Number(0, 1), metavar="P", help="Choose among the likeliest tokens, P together."
)
@click.option("--top-k", type=click.IntRange(min=0), metavar="K", help="Choose among the K likeliest tokens.")
@click.option("--min-p", type=Number(0, 1), metavar="P", help="None less likely than P times the likeliest.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="The same seed, the same answer."
)
@click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this text; can be given again.")
@click.option("--json-schema", metavar="FILE", help="Answer in JSON that fits the JSON schema in FILE.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="For the whole answer: 90s, 5m.")
@click.option("--no-wait", is_flag=True, help="Fail with WORKER_BUSY where every slot is taken.")
@click.option("--rm", "remove", is_flag=True, help="Stop the worker afterwards, if this command started it.")
@pass_cli
def infer(cli: Cli, /, words: tuple[str, ...], prompt: str | None, **options: Any) -> None:
    """Answer a prompt: find or start a worker for the model, and stream its tokens to stdout.

    The prompt is the argument, or --prompt, or else standard input. A "-" beside the
    argument adds standard input to it, as a paragraph of its own. One line end at the end of the input is
    dropped. Other users of this machine can see arguments (ps), and not standard input.

    \b
      rbee infer --model ./tiny.gguf "Why is the sky blue?"
      git diff | rbee infer -m tiny "Review this:" -
      rbee infer -m tiny --node gpu1 --temperature 0 --max-tokens 20 "Write a short story"
      rbee infer -m tiny --json-schema person.json "Invent a person" | jq .name

    The worker stays for the next prompt. The thinking of a reasoning model goes to stderr. With --json each
    line is an object: "start", then "token" and "thinking", and "done" or "error" as the last.
    """
    request = _request(cli, words, prompt, options)
    console = cli.console
    emit = _json_lines(console) if cli.as_json else _text(console)

    from rbee_ssh.workers.infer import infer as answer

    try:
        cli.run(lambda pool: answer(pool, request, emit), stream=True)
    finally:
        console.end_answer()


def _request(cli: Cli, words: tuple[str, ...], prompt: str | None, options: dict[str, Any]) -> InferRequest:
    """What the command line asks for, checked as far as that goes without asking a node."""
    from rbee_ssh.workers.types import InferRequest, Sampling

    if options["raw"] and options["system"] is not None:
        raise UsageInvalid("--system needs the chat template that --raw leaves out")
    if options["system"] is not None:
        prompts.checked(options["system"], "--system")
    for text in options["stop"]:
        if not prompts.checked(text, "--stop"):
            raise UsageInvalid("--stop is empty")
    schema = options["json_schema"]
    sampling = Sampling(
        json_schema=None if schema is None else read_schema(Path(schema)),
        **{name: options[name] for name in _SAMPLING},
    )
    worker = worker_request(cli, **{name: options[name] for name in _WORKER})
    return InferRequest(
        worker=worker,
        prompt=_prompt(cli.console, words, prompt),
        system=options["system"],
        raw=options["raw"],
        sampling=sampling,
        timeout=options["timeout"],
        wait=not options["no_wait"],
        remove=options["remove"],
    )


def _prompt(console: Console, words: tuple[str, ...], option: str | None) -> str:
    stdin = sys.stdin
    terminal = stdin is not None and stdin.isatty()

    def read() -> str:
        if terminal:
            console.say("reading the prompt from the terminal, to its end with Ctrl+D")
        return prompts.from_stdin(stdin.buffer if stdin else None)

    prompt = prompts.compose(words, option, read, terminal=terminal)
    unread = prompts.STDIN not in words and (bool(words) or option is not None)
    if unread and prompts.waits(stdin):
        console.say('standard input is not read beside a prompt; add "-" to read it')
    return prompt


def _json_lines(console: Console) -> Callable[[Event], None]:
    from rbee_ssh.cli import shapes

    return lambda event: console.json(shapes.event(event))


def _text(console: Console) -> Callable[[Event], None]:
    from rbee_ssh.workers.types import Done, Started, Thinking, Token

    served = ""

    def emit(event: Event) -> None:
        nonlocal served
        match event:
            case Token(text, _):
                console.answer(text)
            case Thinking(text, _):
                console.thinking(text)
            case Started():
                served = f"{event.worker} on {event.node} ({event.engine})"
            case Done():
                console.end_answer()
                console.say(f"{summary(event)} · {served}")

    return emit


def summary(done: Done) -> str:
    """The line below an answer: tokens, seconds, tokens a second, time to the first."""
    cut = ", cut at the limit," if done.finish_reason == "length" else ""
    first = done.time_to_first_token_ms
    return (
        f"{done.tokens} token{'s' * (done.tokens != 1)}{cut} in {done.seconds:.2f} s"
        f" · {done.tokens_per_second:.1f} tokens/s"
        f" · first after {f'{first:.0f} ms' if first < 10_000 else span(first / 1000)}"
    )
