"""`rbee cleanup`: stop what nobody uses."""

from __future__ import annotations

import click

from rbee_ssh.cli import shapes
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import DURATION, command


@command(short_help="Stop the workers that nobody uses.")
@click.option(
    "--idle",
    type=DURATION,
    metavar="TIME",
    help="Unused for so long: 90s, 5m. Default: the inventory's idle_timeout, else 5m.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be stopped, and stop nothing.")
@click.option("--any-owner", is_flag=True, help="Workers that other control machines started, too.")
@pass_cli
def cleanup(cli: Cli, idle: float | None, dry_run: bool, any_owner: bool) -> None:
    """Stop the workers that nobody has used for a while, on every node of the inventory.

    Idle time is counted on the node, whoever used the worker; one that computes or holds a connection is not
    idle. Records of workers that are gone are forgotten. Silent when there was nothing to do; a node that
    cannot be reached is a warning.

    \b
      rbee cleanup --idle 5m
      rbee cleanup --idle 0s --dry-run
      rbee cron install --every 5m --idle 5m       # the same, by itself
    """
    timeout = cli.inventory().idle_timeout if idle is None else idle

    from rbee_ssh.workers.cleanup import JUST_USED
    from rbee_ssh.workers.cleanup import cleanup as clean

    report = cli.run(lambda pool: clean(pool, idle=timeout, dry_run=dry_run, any_owner=any_owner))
    console = cli.console
    if cli.as_json:
        console.json(
            shapes.cleaned(report.stopped, report.kept, report.pruned, report.unreachable, dry_run=dry_run)
        )
    else:
        for identity in report.stopped:
            console.line(f"{'would stop' if dry_run else 'stopped'} {identity}")
        for identity, why in report.kept:
            # Idle for as long as was asked for, to all who count in ticks of 5 s: not what was expected.
            tell = console.say if why == JUST_USED else console.detail
            tell(f"kept {identity}: {why}")
        for identity in report.pruned:
            console.detail(f"forgot {identity}")
    console.unreachable(report.unreachable)
