"""`rbee models verify`: the files on the nodes read again and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.models import shapes
from rbee_ssh.cli.options import command, tag_option

if TYPE_CHECKING:
    from rbee_ssh.library.stores import Unreachable, Verification
    from rbee_ssh.models.node_store import StoredModel
    from rbee_ssh.ssh.pool import ConnectionPool

_WORDS = {
    "same": "as it was",
    "differs": "differs from its SHA-256",
    "gone": "cannot be read",
    "cut": "is not whole",
    "unknown": "has no SHA-256 to compare with",
}


@command(short_help="Read stored models again and compare their SHA-256.")
@click.argument("reference", metavar="[REF]", required=False)
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only this node's. May be repeated.")
@tag_option
@pass_cli
def verify(cli: Cli, reference: str | None, nodes: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Read a model, or all, again on the nodes that have it, and compare with the SHA-256 that is known
    here, or that it came with.

    Nothing is removed: that is `rbee models rm`, and the next `pull` or `push` brings it again, as the hint
    says. Exit status 1 when one is not what it should be.

    \b
      rbee models verify
      rbee models verify tiny.gguf --node gpu1
    """
    names = cli.nodes(nodes, tags)

    from rbee_ssh.library import stores

    console = cli.console
    verdicts: list[Verification] = []

    def on_verdict(verdict: Verification) -> None:
        verdicts.append(verdict)
        if not cli.as_json:
            model = verdict.model
            console.line(f"{model.id} on {model.node}: {model.name} {_WORDS[verdict.state]}")

    async def work(pool: ConnectionPool) -> Unreachable:
        if reference is not None:
            models, silent = await stores.copies(pool, reference, names)
        else:
            found, silent = await stores.store_contents(pool, names)
            models = [model for contents in found for model in contents.models]
        return {**silent, **await stores.verify(pool, models, on_verdict)}

    silent = cli.run(work)
    if cli.as_json:
        console.json(shapes.verified(verdicts, silent))
    elif not verdicts and not silent:
        console.say("no models")
    wrong = [verdict for verdict in verdicts if verdict.state in ("differs", "gone", "cut")]
    for verdict in wrong:
        model = verdict.model
        console.error(f"{model.name} on {model.node} {_WORDS[verdict.state]}\nhint: {again(model)}")
    console.unreachable(silent, failed=True)
    if silent or wrong:
        click.get_current_context().exit(1)


def again(model: StoredModel) -> str:
    """What brings the model anew, from where its note says that it came."""
    from rbee_ssh.ssh.quote import quote

    node, source = f"--node {model.node}", model.note.source
    remove = f"rbee models rm {model.id} {node}"
    if (origin := model.note.told_by) is not None:
        return f"{remove} && rbee models copy {model.id} --from {quote(origin)} --to {model.node}"
    way = "pull" if source.startswith(("hf:", "https://", "http://")) else "push"
    return f"{remove} && rbee models {way} {quote(source)} {node}" if source else remove
