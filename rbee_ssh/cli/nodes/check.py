"""`rbee nodes check`: what a node needs for inference, each by name, and what to do about what it lacks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.text import clean_line

if TYPE_CHECKING:
    from rbee_ssh.cli.console import Console
    from rbee_ssh.node.checks import Check

_SIGNS = {
    "ok": ("✓", "green"),
    "failed": ("✗", "red"),
    "warning": ("!", "yellow"),
    "unknown": ("–", ""),
    "not_tried": ("–", ""),
}
_NAME, _TIME = 11, 8
_INDENT = 2 + 2 + _NAME + _TIME + 2  # where a detail begins


@command(short_help="Try all that inference needs, and say what to do.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@tag_option
@pass_cli
def check(cli: Cli, names: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Connect to these nodes, or to all, and try what inference needs there, each thing by name.

    ✓ works, ✗ stops inference, ! is a warning, – is not known, or not tried because of what failed before.
    Channels are really opened, and engines really started (--version, and the list of their devices).
    Exit status 1 when something stops inference on one of the nodes.

    \b
      rbee nodes check workstation
      rbee nodes check --tag gpu --json | jq '.nodes[] | select(.ok | not) | .name'
    """
    wanted = cli.nodes(names, tags)
    console = cli.console
    waiting = dict.fromkeys(wanted)
    shown = 0

    from rbee_ssh.fleet.check import check_nodes
    from rbee_ssh.node.checks import works

    def on_node(name: str, found: tuple[Check, ...]) -> None:
        nonlocal shown
        waiting.pop(name, None)
        if not cli.as_json:
            if shown:
                console.line("")
            show(console, name, found)
            shown += 1
        console.status(f"checking {', '.join(waiting)}" if waiting else "")

    console.status(f"checking {', '.join(wanted)}")
    found = cli.run(lambda pool: check_nodes(pool, wanted, on_node))
    if cli.as_json:
        console.json(
            {"nodes": [shapes.checked_node(name, some, works(some)) for name, some in found.items()]}
        )
    if not all(works(some) for some in found.values()):
        click.get_current_context().exit(1)


def show(console: Console, name: str, found: Sequence[Check]) -> None:
    failed = sum(one.state == "failed" for one in found)
    console.line(f"{name}: {'works' if not failed else 'does not work'}")
    for one in found:
        sign, colour = _SIGNS[one.state]
        console.marked(f"  {sign} ", rows(one, console.columns), colour=colour)


def rows(one: Check, columns: int | None) -> str:
    """A check behind its sign: name, time, detail, folded to the terminal; the fix is one line, for pasting.

    Args:
        columns: of the terminal; None where nothing is to be folded.
    """
    time = "" if one.seconds is None else _time(one.seconds)
    detail = "not tried" if one.state == "not_tried" else clean_line(one.detail)
    folded = [detail]
    if columns is not None and columns - _INDENT >= 20:
        folded = textwrap.wrap(detail, columns - _INDENT, break_on_hyphens=False) or [""]
    text = f"{one.name.replace('_', ' '):{_NAME}}{time:>{_TIME}}  {folded[0]}".rstrip()
    for more in folded[1:]:
        text += f"\n{'':{_INDENT}}{more}"
    if one.fix:
        text += f"\n    fix: {clean_line(one.fix)}"
    return text


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
