"""`rbee nodes status`: what the nodes have, and how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.run import run_async
from rbee_ssh.cli.text import Column, size, unreachable

if TYPE_CHECKING:
    from rbee_ssh.workers.status import NodeStatus

STATUS_COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("LATENCY", right=True, spare=3),
    Column("SYSTEM", keep="start", spare=2),
    Column("CPUS", right=True, spare=1),
    Column("RAM FREE", right=True),
    Column("DISK FREE", right=True),
    Column("GPUS", keep="start"),
    Column("ENGINES", keep="start"),
    Column("WORKERS", right=True),
)


@command(short_help="Ask the nodes what they have.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@tag_option
@pass_cli
def status(cli: Cli, names: tuple[str, ...], tags: tuple[str, ...]) -> None:
    """Connect to these nodes, or to all, and show what they have: memory, disk, GPUs, engines, workers.

    Each is tried once; one that is down is shown with its error, and is no failure of the command.

    \b
      rbee nodes status
      rbee nodes status --tag gpu
      rbee nodes status gpu1 --json | jq '.nodes[0].gpus'
    """
    wanted = cli.nodes(names, tags)
    console = cli.console
    waiting = dict.fromkeys(wanted)

    def on_node(answer: NodeStatus) -> None:
        waiting.pop(answer.name, None)
        console.status(f"waiting for {', '.join(waiting)}" if waiting else "")

    from rbee_ssh.workers.status import node_status

    async def work() -> list[NodeStatus]:
        async with cli.fleet() as fleet:
            return await node_status(fleet, wanted, on_node)

    console.status(f"asking {len(wanted)} nodes" if len(wanted) > 1 else f"asking {wanted[0]}")
    found = run_async(work)
    if cli.as_json:
        from rbee_ssh.cli import shapes

        console.json({"nodes": [shapes.node_status(one) for one in found]})
        return
    console.table(STATUS_COLUMNS, [status_row(one) for one in found])
    for one in found:
        for problem in problems(one):
            console.warn(problem)


def status_row(one: NodeStatus) -> list[str]:
    """A node's line in `nodes status`."""
    facts = one.facts
    latency = "" if one.latency_ms is None else f"{one.latency_ms:.0f} ms"
    if facts is None:
        return [one.name, one.state, latency, *[""] * 7]
    return [
        one.name,
        one.state,
        latency,
        f"{facts.os} {facts.arch}",
        str(facts.cpus or ""),
        _free(facts.ram_free_bytes, facts.ram_total_bytes),
        _free(facts.disk_free_bytes, None),
        ", ".join(gpu.name for gpu in facts.gpus),
        ", ".join(dict.fromkeys(f"{one.name}{' ✗' if one.problem else ''}" for one in facts.engines)),
        str(len(one.workers)),
    ]


def problems(one: NodeStatus) -> list[str]:
    """What a user should know of a node, beside the table: why it is down, what will not work."""
    if one.error is not None:
        return [unreachable(one.name, one.error)]
    if one.facts is None:
        return []
    broken = [
        f"{engine.name} does not run: {engine.problem}" for engine in one.facts.engines if engine.problem
    ]
    return [f"{one.name}: {problem}" for problem in (*broken, *one.facts.problems)]


def _free(free: int | None, total: int | None) -> str:
    """Free bytes of all, in the unit of all: "22.9/23.5 GiB"."""
    if free is None or total is None:
        return "" if free is None else size(free)
    whole, unit = size(total).split(" ")
    return f"{float(whole) * free / max(total, 1):.1f}/{whole} {unit}"
