"""`rbee models pull`: a model from the hub or a URL to nodes."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.text import size
from rbee_ssh.errors import RbeeError, UsageInvalid
from rbee_ssh.wording import without_secrets

if TYPE_CHECKING:
    from rbee_ssh.library.pull import Pulled


@command(short_help="Fetch a model onto nodes, from the hub or a URL.")
@click.argument("reference", metavar="REF")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="A node. May be repeated.")
@tag_option
@click.option("--detach", is_flag=True, help="Come back as soon as the node fetches.")
@click.option(
    "--via",
    type=click.Choice(["node", "here"]),
    default="node",
    show_default=True,
    help="Who fetches: the node, or this machine, which sends it on.",
)
@pass_cli
def pull(
    cli: Cli, reference: str, nodes: tuple[str, ...], tags: tuple[str, ...], detach: bool, via: str
) -> None:
    """Fetch a model onto nodes: resumed where it stopped, checked by its SHA-256, and never fetched twice.

    REF is hf:ORG/REPO, hf:ORG/REPO:QUANT, hf:ORG/REPO/FILE.gguf (each with @REVISION), an https URL of a
    .gguf file (with #sha256=HEX to have it checked), or a preset. The node fetches by itself, in the
    background: a lost connection or a closed terminal does not stop it, and the same command finds it again.
    Ctrl+C stops what this command has started; what is there by then stays, and the next pull goes on.

    \b
      rbee models pull hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M --node workstation
      rbee models pull https://example.org/models/tiny.gguf --tag gpu
    """
    names = cli.nodes(nodes, tags)
    if not nodes and not tags and len(names) > 1:
        raise UsageInvalid(
            "to which node? The inventory has several",
            hint=f"rbee models pull {shlex.quote(without_secrets(reference))} --node {names[0]}   # or --tag",
        )
    if detach and via == "here":
        raise UsageInvalid(
            "--detach is for a node that fetches by itself; with --via here this machine does",
            hint=f"rbee models pull {shlex.quote(without_secrets(reference))} --node {names[0]} --via here",
        )

    from rbee_ssh.library import pull as pulls

    done: list[Pulled] = []

    def on_node(pulled: Pulled) -> None:
        done.append(pulled)
        if not cli.as_json:
            cli.console.line(line(pulled))

    here = via == "here"
    try:
        failed = cli.run(
            lambda pool: pulls.pull(pool, reference, names, on_node, via_here=here, detach=detach)
        )
    except RbeeError as refusal:
        refusal.hint = refusal.hint and to_nodes(refusal.hint, nodes, tags)
        raise
    if cli.as_json:
        cli.console.json(shapes.pulled(done, failed))
    else:
        cli.console.unreachable(failed, failed=True)
    if failed:
        click.get_current_context().exit(1)


def to_nodes(hint: str, nodes: tuple[str, ...], tags: tuple[str, ...]) -> str:
    """A hint that names another model to pull, with the nodes that this one was for."""
    command, mark, comment = hint.partition("   #")
    if not command.startswith("rbee models pull ") or " --" in command:
        return hint
    where = [*(("--node", name) for name in nodes), *(("--tag", tag) for tag in tags)]
    return " ".join([command, *(f"{option} {shlex.quote(word)}" for option, word in where)]) + mark + comment


def line(pulled: Pulled) -> str:
    got = pulled.fetched
    if got.running:
        return f"{pulled.node}: fetching {pulled.remote.name} in the background"
    return f"{pulled.node}: {got.path} ({size(got.size)}{'' if got.fresh else ', was there'})"
