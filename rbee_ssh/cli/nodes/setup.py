"""`rbee nodes setup`: an engine on nodes that have none."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.text import Column
from rbee_ssh.errors import UsageInvalid

if TYPE_CHECKING:
    from rbee_ssh.fleet.setup import SetUp

COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("ENGINE"),
    Column("VERSION", keep="start"),
    Column("COMPUTES ON", keep="start"),
    Column("PATH"),
)


@command(short_help="Put an engine on nodes.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@tag_option
@click.option("--engine", metavar="ENGINE", help="xllamacpp (default), llama-cpp-python or llama-server.")
@click.option(
    "--archive",
    metavar="FILE|URL",
    help="A llama.cpp release archive with llama-server: a file here, or a URL that the node fetches.",
)
@click.option("--sha256", metavar="HEX", help="The SHA-256 that the archive must have; http needs it.")
@click.option("--index-url", metavar="URL", help="Where pip looks for the engine's package: https.")
@click.option("--backend", metavar="BACKEND", help="cpu, cuda, rocm, vulkan, metal or auto: the node's GPU.")
@pass_cli
def setup(
    cli: Cli,
    names: tuple[str, ...],
    tags: tuple[str, ...],
    engine: str | None,
    archive: str | None,
    sha256: str | None,
    index_url: str | None,
    backend: str | None,
) -> None:
    """Install a llama.cpp server on nodes, without root, into ~/.local/share/rbee there.

    A Python environment with xllamacpp, or with llama-cpp-python[server] (CMAKE_ARGS of the environment is
    passed on), or llama-server out of a release archive. What is there already is left alone; what was
    interrupted goes on. Tasks of your own that the inventory names (setup) run first.

    A node with a GPU gets a build for it, or an error that names the command that would do; --backend cpu
    says that the CPU is meant.

    \b
      rbee nodes setup workstation
      rbee nodes setup --tag gpu
      rbee nodes setup workstation --archive llama-b7010-bin-ubuntu-x64.tar.gz
      CMAKE_ARGS=-DGGML_CUDA=on rbee nodes setup workstation --engine llama-cpp-python
    """
    from rbee_ssh.provision import plan
    from rbee_ssh.provision.archive import archive as read_archive

    check("--engine", engine, plan.ENGINES)
    from rbee_ssh.inventory import BACKENDS

    check("--backend", backend, BACKENDS)
    wanted = cli.nodes(names, tags)
    if not names and not tags and len(wanted) > 1:
        raise UsageInvalid(
            f"which of the {len(wanted)} nodes?", hint=f"rbee nodes setup {wanted[0]}   # or --tag TAG"
        )
    asked = plan.wanted(
        engine,
        backend=backend,
        archive=read_archive(archive, sha256) if archive else None,
        sha256=sha256,
        index_url=index_url,
        cmake_args=os.environ.get("CMAKE_ARGS"),
    )
    console = cli.console

    def on_node(done: SetUp) -> None:
        if done.error is not None and not cli.as_json:
            console.fail(done.error)

    from rbee_ssh.fleet.setup import setup_nodes

    # A task of the user's own may print; stdout is for the result.
    with contextlib.redirect_stdout(sys.stderr):
        done = cli.run(lambda pool: setup_nodes(pool, wanted, asked, on_node))
    if cli.as_json:
        console.json({"nodes": [shapes.set_up(one) for one in done]})
    elif any(one.engine for one in done):
        console.table(COLUMNS, [row(one) for one in done])
    errors = [one.error for one in done if one.error is not None]
    if errors:
        click.get_current_context().exit(errors[0].exit_status if len(done) == 1 else 1)


def check(option: str, word: str | None, known: tuple[str, ...]) -> None:
    """Raise UsageInvalid for a word that is not one of the known ones."""
    if word is None or word in known:
        return
    from rbee_ssh.wording import listed, nearest, quoted

    near = nearest(word, known)
    raise UsageInvalid(
        f"{option}: there is no {quoted(word)}; there are {listed(known)}",
        hint=f"{option} {near}" if near else None,
    )


def row(done: SetUp) -> list[str]:
    found = done.engine
    if found is None:
        return [done.node, "failed", *[""] * 4]
    state = "installed" if done.changed else "there"
    # Engines are asked for their devices where there may be some.
    return [done.node, state, found.name, found.version, ", ".join(found.backends) or "cpu", found.path]
