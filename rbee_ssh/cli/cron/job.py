"""What cron is to run: our own program with absolute paths, in the environment that this command has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh.cli.cron import crontab
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.registry import default_path

# They decide which registry and which inventory rbee uses; cron sets none of them.
_CARRIED = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")


@dataclass(frozen=True, slots=True)
class Account:
    """Who the user is to cron: it takes the name and home from the user database, not from HOME."""

    name: str
    home: str


@dataclass(frozen=True, slots=True)
class Job:
    """A line of the crontab before it is text. `rbee` is the program with the options before its command."""

    schedule: str
    rbee: tuple[str, ...]
    idle: float | None  # seconds; None leaves it to the inventory when the job runs
    log: Path

    def line(self) -> str:
        """Its line.

        Raises:
            UsageInvalid: a path holds what a crontab cannot carry.
        """
        idle = ("--idle", crontab.spelled(self.idle)) if self.idle is not None else ()
        try:
            return crontab.line(self.schedule, [*self.rbee, "cleanup", *idle], str(self.log))
        except ValueError as problem:
            raise UsageInvalid(str(problem)) from problem


def job(
    *,
    every: float,
    idle: float | None,
    inventory: Path | None,
    program: tuple[str, ...],
    account: Account,
    environ: Mapping[str, str],
) -> Job:
    """The job that cleans up `every` so many seconds.

    Args:
        inventory: the one in use, None for the built-in one; then the job looks for one as ever.
        program: rbee's argv[0], with an absolute path.

    Raises:
        UsageInvalid: cron cannot repeat at that interval.
    """
    try:
        schedule = crontab.schedule(every)
    except ValueError as problem:
        raise UsageInvalid(f"--every: {problem}", hint="rbee cron install --every 5m") from problem
    carried = carried_environment(environ, account)
    prefix = ("/usr/bin/env", *(f"{name}={value}" for name, value in carried.items())) if carried else ()
    named = ("--inventory", os.path.abspath(inventory)) if inventory is not None else ()
    return Job(schedule, (*prefix, *program, *named), idle, default_path(environ).with_name("cron.log"))


def carried_environment(environ: Mapping[str, str], account: Account) -> dict[str, str]:
    """What the job must be told for it to use the same files as the command that installs it."""
    carried = {name: environ[name] for name in _CARRIED if os.path.isabs(environ.get(name, ""))}
    home = environ.get("HOME", "")
    if os.path.isabs(home) and os.path.normpath(home) != os.path.normpath(account.home):
        carried["HOME"] = home
    return carried


def own_program(argv0: str, executable: str) -> tuple[str, ...]:
    """How this very program is started again, from anywhere.

    Args:
        argv0: what it was called as.
        executable: the Python that runs it, for when that is not a program called rbee.
    """
    found = shutil.which(argv0)
    if found and os.path.basename(found).startswith("rbee"):
        return (os.path.abspath(found),)
    return (executable, "-m", "rbee_ssh.cli.main")
