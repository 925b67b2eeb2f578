"""`rbee models rm` and `prune`: models taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.models import shapes
from rbee_ssh.cli.options import AGE, command, tag_option
from rbee_ssh.cli.text import size

if TYPE_CHECKING:
    from rbee_ssh.library.stores import Removal


@command(short_help="Remove a model from a node's store.")
@click.argument("reference", metavar="REF")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="From this node. May be repeated.")
@tag_option
@click.option("--all", "all_", is_flag=True, help="From every node that has it.")
@click.option("--force", is_flag=True, help="Also where a worker has it.")
@pass_cli
def rm(
    cli: Cli, reference: str, nodes: tuple[str, ...], tags: tuple[str, ...], all_: bool, force: bool
) -> None:
    """Remove a model from the store of a node, unless a worker has it. Exit status 1 when a copy was kept.

    REF is what `rbee models list` shows (an ID or the start of it, a name), a reference such as
    hf:ORG/REPO:QUANT, or a preset.

    \b
      rbee models rm 4f2a --node gpu1
      rbee models rm tiny.gguf --all
    """
    names = cli.nodes(nodes, tags)

    from rbee_ssh.library import stores

    everywhere = all_ or bool(nodes or tags)
    done = cli.run(lambda pool: stores.remove(pool, reference, names, everywhere=everywhere, force=force))
    report(cli, done, asked=True)


@command(short_help="Remove the models that nobody has used for a while.")
@click.option("--older-than", type=AGE, metavar="TIME", required=True, help="Unused for so long: 30d, 12h.")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only this node's. May be repeated.")
@tag_option
@click.option("--partial", is_flag=True, help="Only what cut transfers left, no model.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@pass_cli
def prune(
    cli: Cli, older_than: float, nodes: tuple[str, ...], tags: tuple[str, ...], partial: bool, dry_run: bool
) -> None:
    """Remove the models with which no worker was started for a while, on all nodes at once.

    What a worker has is left alone. What cut transfers left goes too, if it is as old, or older than a day.

    \b
      rbee models prune --older-than 30d --dry-run
      rbee models prune --older-than 30d
      rbee models prune --older-than 0s --partial
    """
    names = cli.nodes(nodes, tags)

    from rbee_ssh.library import stores

    done = cli.run(
        lambda pool: stores.prune(pool, names, older_than=older_than, dry_run=dry_run, partial=partial)
    )
    report(cli, done, dry_run=dry_run)


def report(cli: Cli, done: Removal, *, asked: bool = False, dry_run: bool = False) -> None:
    """Say what was removed and what was not; exit status 1 when a node could not be asked, or kept a model
    that was asked for by name."""
    from rbee_ssh.library.stores import in_use

    console = cli.console
    if cli.as_json:
        console.json(shapes.removed(done, dry_run=dry_run))
    else:
        word = "would remove" if dry_run else "removed"
        for model in done.removed:
            console.line(f"{word} {model.id} {model.name} from {model.node} ({size(model.size)})")
        for node, place, count in done.parts:
            console.line(f"{word} {place} from {node} ({size(count)})")
        for model in done.kept:
            console.detail(f"kept {model.id} {model.name} on {model.node}: used meanwhile")
        if not (done.removed or done.parts or done.mapped or done.unreachable):
            console.say("nothing to remove")
    for one in done.mapped:
        found = in_use([one])
        if asked:
            console.error(f"{found.message}\nhint: {found.hint}")
        else:
            console.warn(found.message)
    console.unreachable(done.unreachable, failed=True)
    if done.unreachable or (asked and done.mapped):
        click.get_current_context().exit(1)
