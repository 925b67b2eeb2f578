"""`rbee models copy`: a model from one node to others."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.models.push import report
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.wording import without_secrets

if TYPE_CHECKING:
    from rbee_ssh.library.push import Pushed


@command(short_help="Copy a model from one node to others.")
@click.argument("reference", metavar="REF")
@click.option("--from", "origin", metavar="NAME", help="The node to copy from. Default: any that has it.")
@click.option("--to", "nodes", multiple=True, metavar="NAME", help="A node that gets it. May be repeated.")
@tag_option
@pass_cli
def copy(cli: Cli, reference: str, origin: str | None, nodes: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Copy a model from one node's store to others, through this machine but not onto its disk.

    Three nodes get it at once and it is read once for them; its SHA-256 is proven on arrival. The nodes need
    no way to each other and no key for each other. What was cut goes on where it stopped. A model that
    neither the hub nor this machine knows by its SHA-256 comes without the name that its node has for it.

    \b
      rbee models copy tiny.gguf --from workstation --to server
      rbee models copy hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M --from gpu1 --tag gpu
    """
    if not nodes and not tags:
        raise UsageInvalid(
            "copy it to which node?",
            hint=f"rbee models copy {shlex.quote(without_secrets(reference))} --to NAME   # or --tag",
        )
    names = cli.nodes(nodes, tags)
    if origin is not None:
        cli.nodes((origin,))

    from rbee_ssh.library import replicate

    done: list[Pushed] = []

    failed = cli.run(lambda pool: replicate.copy(pool, reference, origin, names, done.append), resumes=True)
    report(cli, done, failed)
