"""`rbee models push`: a file of this machine to nodes."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.models import shapes
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.text import size
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.wording import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rbee_ssh.errors import RbeeError
    from rbee_ssh.library.push import Pushed


@command(short_help="Send a model file of this machine to nodes.")
@click.argument("file", metavar="FILE")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="A node. May be repeated.")
@tag_option
@pass_cli
def push(cli: Cli, file: str, nodes: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Send a GGUF file of this machine to nodes, three of them at once, and prove it there by its SHA-256.

    A transfer that was cut goes on where it stopped when the command is run again, and a file that a node has
    already, under whatever name, is not sent. The first part of a split model brings its other parts along.

    \b
      rbee models push ./tiny.gguf --node workstation
      rbee models push ./large-00001-of-00003.gguf --tag gpu
    """
    names = cli.nodes(nodes, tags)
    if not nodes and not tags and len(names) > 1:
        raise UsageInvalid(
            "to which node? The inventory has several",
            hint=f"rbee models push {shlex.quote(without_secrets(file))} --node {names[0]}   # or --tag",
        )
    if file.startswith("hf:") or "://" in file:
        named = shlex.quote(without_secrets(file))
        raise UsageInvalid(
            f"{without_secrets(file)} is no file of this machine",
            hint=f"rbee models copy {named} --to {names[0]}"
            if file.startswith("file:")
            else f"rbee models pull {named} --node {names[0]}",
        )

    from pathlib import Path

    from rbee_ssh.library import push as pushes

    done: list[Pushed] = []

    failed = cli.run(lambda pool: pushes.push(pool, Path(file), names, done.append), resumes=True)
    report(cli, done, failed)


def report(cli: Cli, done: list[Pushed], failed: Mapping[str, RbeeError]) -> None:
    """Where the model is now, and where it could not be brought; exit status 1 for those."""
    if cli.as_json:
        cli.console.json(shapes.pushed(done, failed))
    else:
        for one in done:
            cli.console.line(f"{one.node}: {one.path} ({size(one.size)})")
    cli.console.unreachable(failed, failed=True)
    if failed:
        click.get_current_context().exit(1)
