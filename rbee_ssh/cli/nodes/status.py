"""`rbee nodes status`: what the nodes have, and how they are."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option

if TYPE_CHECKING:
    from rbee_ssh.cli.console import Console
    from rbee_ssh.fleet.status import NodeStatus
    from rbee_ssh.fleet.watch import Watch
    from rbee_ssh.ssh.pool import ConnectionPool


@command(short_help="Ask the nodes what they have.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@tag_option
@click.option("--watch", is_flag=True, help="Ask again every 2 s, over the same connections, until Ctrl+C.")
@pass_cli
def status(cli: Cli, names: tuple[str, ...], tags: tuple[str, ...], watch: bool) -> None:
    """Connect to these nodes, or to all at once, and show each as it answers: load, memory, disk, GPUs,
    engines, workers.

    Each is tried once; one that is down is shown with the reason, and is no failure of the command. With
    --watch it is tried again, after 2 s at first, then less and less often. What a narrow terminal has no
    place for is in --json, and in the output of a pipe.

    \b
      rbee nodes status
      rbee nodes status --tag gpu --watch
      rbee nodes status gpu1 --json | jq '.nodes[0].gpus'
    """
    wanted = cli.nodes(names, tags)
    if watch:
        cli.run(lambda pool: _watch(cli, pool, wanted), stream=True)
    else:
        _once(cli, wanted)


def _once(cli: Cli, wanted: list[str]) -> None:
    """A line for each node, as it answers."""
    from rbee_ssh.cli.nodes import status_rows
    from rbee_ssh.fleet.status import node_status

    console = cli.console
    place = status_rows.layout(wanted, console.columns)
    waiting = dict.fromkeys(wanted)

    def on_node(answer: NodeStatus) -> None:
        waiting.pop(answer.name, None)
        if not cli.as_json:
            console.line(*status_rows.line(place, answer))
        console.status(f"waiting for {', '.join(waiting)}" if waiting else "")

    if not cli.as_json:
        console.line(place.titles, "title")
    console.status(f"asking {wanted[0]}" if len(wanted) == 1 else f"asking {len(wanted)} nodes")
    found = cli.run(lambda pool: node_status(pool, wanted, on_node), stream=True)
    if cli.as_json:
        console.json({"nodes": [shapes.node_status(one) for one in found]})
        return
    for one in found:
        for problem in status_rows.problems(one):
            console.warn(problem)


async def _watch(cli: Cli, pool: ConnectionPool, wanted: list[str]) -> None:
    """All nodes in their order: on a terminal drawn anew with each answer, in a pipe told every 2 s."""
    from rbee_ssh.fleet.watch import INTERVAL, Watch

    async with Watch(pool, wanted) as watch:
        if cli.console.draws and not cli.as_json:
            await _draw(cli.console, wanted, watch)
        while True:
            due = time.monotonic() + INTERVAL
            await watch.settled(INTERVAL)
            _tell(cli, wanted, watch.seen())
            await asyncio.sleep(max(due - time.monotonic(), 0))


async def _draw(console: Console, wanted: list[str], watch: Watch) -> NoReturn:
    from rbee_ssh.cli.nodes.status_rows import layout, picture

    with console.screen() as screen:
        while True:
            columns, lines = screen.size()
            screen.draw(picture(layout(wanted, columns), watch.seen(), time.strftime("%X"), lines))
            await asyncio.sleep(0.1)  # nobody reads faster
            await watch.news(1.0)


def _tell(cli: Cli, wanted: list[str], seen: list[NodeStatus]) -> None:
    if cli.as_json:
        nodes = [shapes.node_status(one) for one in seen]
        cli.console.json({"time": round(time.time(), 3), "nodes": nodes})
    else:
        from rbee_ssh.cli.nodes.status_rows import layout, picture

        place, now = layout(wanted, cli.console.columns), time.strftime("%Y-%m-%d %H:%M:%S")
        cli.console.line("\n".join(text for text, _ in picture(place, seen, now)) + "\n")
