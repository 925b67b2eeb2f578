"""`rbee cron`: the line in the user's crontab that stops idle workers."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.cron import crontab as text_of
from rbee_ssh.cli.cron.crontab_program import Crontab, daemon_seen, users_crontab
from rbee_ssh.cli.cron.job import Account, Job, job, own_program
from rbee_ssh.cli.cron.trial import cron_environment, look_twice, verdict
from rbee_ssh.cli.options import DURATION, group
from rbee_ssh.errors import CronFailed, RbeeError
from rbee_ssh.reporter import Reporter

if TYPE_CHECKING:
    from rbee_ssh.ssh.by_address import ByAddress

NO_DAEMON = "no cron daemon was seen running on this machine; without one nothing runs the line"
TAIL = 5  # lines of the log that `status` shows


@group("cron")
def cron() -> None:
    """Stop idle workers from your crontab.

    One line, marked as rbee's, runs `rbee cleanup`. No other line is touched.
    """


@cron.command("install")
@click.option(
    "--every",
    type=DURATION,
    default="5m",
    show_default=True,
    metavar="TIME",
    help="How often: minutes that divide an hour, or hours that divide a day.",
)
@click.option(
    "--idle",
    type=DURATION,
    metavar="TIME",
    help="Stop workers unused for so long. Else the inventory's idle_timeout.",
)
@pass_cli
def install_command(cli: Cli, every: float, idle: float | None) -> None:
    """Put the line into your crontab, in the place of an older one.

    Every node is tried first, in the environment that cron gives: no SSH agent, no terminal.
    """
    account = _account()
    planned = job(
        every=every,
        idle=idle,
        inventory=cli.inventory().path,
        program=own_program(sys.argv[0], sys.executable),
        account=account,
        environ=os.environ,
    )
    result = install_cron(planned, users_crontab(os.environ), account, cli.console)
    if cli.draft().found:
        cli.console.warn(
            f"the line names {cli.inventory().path}: what that says when cron runs holds, allowed or not"
        )
    if cli.as_json:
        cli.console.json(result)
    else:
        cli.console.line(result["line"])


@cron.command("status")
@pass_cli
def status_command(cli: Cli) -> None:
    """Show the line, and what it wrote last.

    Warns of nodes whose host key stands in known_hosts under their address alone, which does not count.
    """
    console = cli.console
    line = text_of.find(users_crontab(os.environ).read())
    log = text_of.log_of(line) if line else None
    tail = _tail(Path(log)) if log else []
    daemon = daemon_seen()
    known = _known_by_address(cli) if line is not None else []
    if cli.as_json:
        console.json(
            {
                "installed": line is not None,
                "line": line,
                "schedule": text_of.schedule_of(line) if line else None,
                "log": log,
                "log_tail": tail,
                "daemon": daemon,
                "known_by_address": [asdict(one) for one in known],
            }
        )
    elif line is None:
        console.line("not installed")
        console.say("rbee cron install")
    else:
        console.line("\n  ".join([line, *tail]))
    if line is not None and daemon is False:
        console.warn(NO_DAEMON)
    for one in known:
        console.warn(str(one))


@cron.command("remove")
@pass_cli
def remove_command(cli: Cli) -> None:
    """Take the line out of your crontab."""
    crontab = users_crontab(os.environ)
    before = crontab.read()
    after = text_of.remove(before)
    if after != before:
        crontab.write(after)
    if cli.as_json:
        cli.console.json({"removed": after != before})
    else:
        cli.console.line("removed" if after != before else "not installed")


def install_cron(planned: Job, crontab: Crontab, account: Account, reporter: Reporter) -> dict[str, Any]:
    """Tries the nodes as cron will, then puts the line into the crontab. Returns what `--json` prints.

    Raises:
        CronFailed: the crontab cannot be read or written. It is then as it was.
        UsageInvalid: a path holds what a crontab cannot carry.
    """
    line = planned.line()
    crontab.read()  # whoever may not have a crontab shall not wait for the nodes to learn it
    reporter.say("trying every node in the environment that cron gives")
    here, there = look_twice(planned.rbee, os.environ, cron_environment(account.home, account.name))
    found = verdict(here, there)
    for warning in found.warnings():
        reporter.warn(warning)
    _prepare_log(planned.log)
    before = crontab.read()
    after = text_of.install(before, line)
    if after != before:
        crontab.write(after)
        if text_of.find(crontab.read()) != line:
            raise CronFailed("the crontab was written, and does not hold our line now", hint="crontab -l")
    daemon = daemon_seen()
    if daemon is False:
        reporter.warn(NO_DAEMON)
    return {
        "installed": True,
        "changed": after != before,
        "line": line,
        "schedule": planned.schedule,
        "log": str(planned.log),
        "daemon": daemon,
        "agent_only": [node.name for node in found.agent_only],
        "unreachable": [asdict(node) for node in (*found.lost, *found.down)],
        "problem": found.problem,
    }


def _known_by_address(cli: Cli) -> list[ByAddress]:
    """Nothing where the inventory is at fault: the log says so."""
    from rbee_ssh.ssh.by_address import known_by_address

    try:
        return known_by_address(cli.inventory().nodes)
    except RbeeError:
        return []


def _account() -> Account:
    try:
        known = pwd.getpwuid(os.getuid())
    except KeyError:
        raise CronFailed(f"user {os.getuid()} has no account on this machine, and so no crontab") from None
    return Account(known.pw_name, known.pw_dir)


def _prepare_log(log: Path) -> None:
    """The shell makes no directories, and would make the file readable by all."""
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as problem:
        raise CronFailed(f"the log {log} cannot be written: {problem.strerror}") from problem


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return file.read().decode(errors="replace").splitlines()[-TAIL:]
    except OSError:
        return []
