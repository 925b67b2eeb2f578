"""`rbee models list`: what the stores of the nodes hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.models import shapes
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.text import Column, size, span

if TYPE_CHECKING:
    from rbee_ssh.models.node_store import StoredModel

COLUMNS = (
    Column("ID"),
    Column("NODE", keep="start"),
    Column("NAME", keep="end"),
    Column("QUANT", spare=2),
    Column("PARAMS", right=True, spare=3),
    Column("CONTEXT", right=True, spare=4),
    Column("SIZE", right=True),
    Column("VERIFIED", right=True, spare=1),
    Column("USED", right=True),
)


@command("list", short_help="List the models in the stores of the nodes.")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only this node's. May be repeated.")
@tag_option
@pass_cli
def list_(cli: Cli, nodes: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """List the models that rbee keeps on the nodes, all nodes asked at once.

    ID is what `rm`, `copy` and `verify` take, four of its digits at least: the beginning of the model's
    SHA-256. VERIFIED and USED say how long ago its SHA-256 was compared, and a worker was last started with
    it, or it came; VERIFIED is `differs` where the last look found something else. Files that are used in
    place (file:///…) are not the store's.

    \b
      rbee models list
      rbee models list --node gpu1 --json | jq -r '.models[].path'
    """
    names = cli.nodes(nodes, tags)

    from rbee_ssh.library.describe import store_contents

    found, silent = cli.run(lambda pool: store_contents(pool, names))
    console = cli.console
    models = [model for contents in found for model in contents.models]
    if cli.as_json:
        console.json(shapes.listed(found, silent))
    elif models:
        now = time.time()
        console.table(COLUMNS, [row(model, now) for model in models])
    else:
        console.say("no models" + (" on the nodes that answered" if silent else ""))
    for contents in found:
        if contents.parts:
            held = sum(part.size for part in contents.parts)
            count = f"{len(contents.parts)} partial file" + "s" * (len(contents.parts) > 1)
            console.say(
                f"{contents.node}: what transfers left that were cut, {count}, holds {size(held)}: "
                f"rbee models prune --partial --older-than 0s --node {contents.node}"
            )
    console.unreachable(silent, failed=not found)
    if silent and not found:  # there is nothing that is known
        click.get_current_context().exit(1)


def row(model: StoredModel, now: float) -> list[str]:
    """A model's line in the table. `now`: Unix seconds."""
    note = model.note
    return [
        model.id,
        model.node,
        model.name,
        model.quant or "",
        "" if note.parameters is None else count(note.parameters),
        "" if note.context is None else str(note.context),
        size(model.size),
        "cut" if not model.whole else "differs" if model.differs else ago(model.verified, now),
        ago(model.last_used, now),
    ]


def ago(moment: int | None, now: float) -> str:
    """How long ago; a node's clock may be ahead of ours."""
    return "never" if moment is None else span(max(0, round(now - moment)))


def count(parameters: int) -> str:
    """Parameters as model names tell them: 135M, 1.2B, 70B."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if parameters >= unit:
            amount = parameters / unit
            return f"{amount:.0f}{letter}" if amount >= 9.95 else f"{amount:.1f}{letter}"
    return str(parameters)
