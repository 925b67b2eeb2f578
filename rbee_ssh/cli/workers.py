"""`rbee workers`: what runs where, and starting and stopping it by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import group
from rbee_ssh.cli.text import Column, size, span
from rbee_ssh.cli.worker_options import worker_options, worker_request
from rbee_ssh.errors import UsageInvalid

if TYPE_CHECKING:
    from rbee_ssh.workers.types import Worker

COLUMNS = (
    Column("ID"),
    Column("NODE", keep="start"),
    Column("MODEL", keep="end"),
    Column("ENGINE", keep="start"),
    Column("STATE"),
    Column("CONTEXT", right=True, spare=3),
    Column("MEMORY", right=True, spare=2),
    Column("IDLE", right=True),
    Column("LEASE", right=True, spare=1),
)


@group(short_help="What runs where: list, start, stop, logs.")
def workers() -> None:
    """List, start and stop workers, and read their logs.

    A worker is one engine with one model on one node. `rbee infer` starts it when it is needed; it ends by
    itself when it has not been used for its lease (an hour unless the inventory says otherwise).
    """


@workers.command("list", short_help="List the workers of all nodes.")
@click.option("--node", metavar="NAME", multiple=True, help="Only this node's; can be given again.")
@pass_cli
def list_(cli: Cli, node: tuple[str, ...]) -> None:
    """List the workers of all nodes, whoever started them.

    States: starting, loading, idle, busy, stopping, stopped; failed (ended before it was ready), dead (gone
    without a word), unknown (its node cannot be reached). CONTEXT is what each request may take, with the
    number of slots before it; MEMORY what the worker has of RAM now, its model among it, and what it was
    expected to take of GPUs.

    \b
      rbee workers list
      rbee workers list --node gpu1 --json | jq -r '.workers[].id'
    """
    names = cli.nodes(node)

    from rbee_ssh.workers.listing import list_workers

    found, silent = cli.run(lambda pool: list_workers(pool, names))
    if cli.as_json:
        cli.console.json(shapes.workers(found))
    elif found:
        cli.console.table(COLUMNS, [row(worker) for worker in found])
    else:
        cli.console.say("no workers" + (" on the nodes that answered" if silent else ""))
    cli.console.unreachable(silent)


def row(worker: Worker) -> list[str]:
    idle = "" if worker.idle_seconds is None else span(worker.idle_seconds)
    lease = span(worker.lease_seconds)
    context = "" if worker.context is None else str(worker.context)
    if context and worker.parallel > 1:
        context = f"{worker.parallel} × {context}"
    memory = "" if worker.memory is None else size(worker.memory)
    if worker.device_memory:
        memory = f"{memory or '?'} + {size(worker.device_memory)} GPU"
    return [worker.id, worker.node, worker.model, worker.engine, worker.state, context, memory, idle, lease]


@workers.command(short_help="Start a worker, and print its id.")
@worker_options
@pass_cli
def start(cli: Cli, /, **options: Any) -> None:
    """Start a worker and wait until it is ready, or find the one that runs already; print its id.

    \b
      rbee workers start --node gpu1 --model file:///models/tiny.gguf
      rbee tunnel "$(rbee workers start --model tiny)" --port 8080
    """
    request = worker_request(cli, **options)

    from rbee_ssh.workers.start import start_worker

    worker, reused = cli.run(lambda pool: start_worker(pool, request))
    if cli.as_json:
        cli.console.json(shapes.started(worker, reused))
    else:
        cli.console.line(worker.id)


@workers.command(short_help="Stop workers by id, of a node, or all.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--node", metavar="NAME", help="All workers of this node.")
@click.option("--all", "all_", is_flag=True, help="All workers of all nodes.")
@click.option("--any-owner", is_flag=True, help="With --node or --all: those of other control machines, too.")
@click.option("--now", is_flag=True, help="Do not wait for running requests.")
@pass_cli
def stop(cli: Cli, ids: tuple[str, ...], node: str | None, all_: bool, any_owner: bool, now: bool) -> None:
    """Stop workers: by id, those of a node, or all of them.

    A worker takes no new request then, and has 30 s to finish the running ones; what ignores the end of that
    is killed, and said. Waits until they are gone.

    \b
      rbee workers stop 3f9a
      rbee workers stop --node gpu1 --now
    """
    if sum((bool(ids), node is not None, all_)) != 1:
        raise UsageInvalid("expected one of: ids of workers, --node, --all", hint="rbee workers list")
    if ids and any_owner:
        raise UsageInvalid("--any-owner goes with --node or --all; an id means that worker, whoever owns it")
    if node is not None:
        cli.nodes((node,))

    from rbee_ssh.workers.stop import stop_workers

    report = cli.run(lambda pool: stop_workers(pool, ids, node=node, all_=all_, any_owner=any_owner, now=now))
    console = cli.console
    if cli.as_json:
        console.json(shapes.stopped(report.stopped, report.forced, report.unreachable))
    else:
        for identity in report.stopped:
            console.line(f"stopped {identity}")
        if not report.stopped and not report.unreachable:
            console.say("nothing to stop")
    console.unreachable(report.unreachable, failed=True)
    if report.unreachable:
        # What was to be stopped there may still run.
        click.get_current_context().exit(1)


@workers.command(short_help="Print a worker's log.")
@click.argument("worker", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, until Ctrl+C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="N",
    help="From this many lines before its end.",
)
@pass_cli
def logs(cli: Cli, worker: str, follow: bool, lines: int) -> None:
    """Print the end of a worker's log: the engine's own words.

    With --json each line is an object with the key "line".

    \b
      rbee workers logs 3f9a
      rbee workers logs 3f9a -f | grep -i error
    """
    console = cli.console

    from rbee_ssh.fleet.run import Lines
    from rbee_ssh.workers.logs import follow_log

    json_lines = Lines()

    def write(data: bytes) -> None:
        if cli.as_json:
            tell(json_lines.feed(data))
        else:
            console.raw(data)

    def tell(lines: Iterable[bytes]) -> None:
        for line in lines:
            console.json({"line": line.decode("utf-8", "replace")})

    try:
        cli.run(lambda pool: follow_log(pool, worker, follow=follow, lines=lines, write=write), stream=True)
    finally:
        tell(json_lines.close())
