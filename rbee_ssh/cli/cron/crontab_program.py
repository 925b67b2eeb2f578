"""The user's crontab, read and written through the crontab program; and whether a cron runs at all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rbee_ssh.errors import CronFailed

_ELSEWHERE = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin:/opt/homebrew/bin"
_NONE_YET = re.compile(r"no crontab for |can't open '[^']*': No such file", re.IGNORECASE)
_DAEMONS = frozenset({"cron", "crond"})
_INSTALLS = {
    "apt-get": "sudo apt-get install cron",
    "dnf": "sudo dnf install cronie",
    "yum": "sudo yum install cronie",
    "zypper": "sudo zypper install cron",
    "pacman": "sudo pacman -S cronie",
    "apk": "sudo apk add busybox-openrc",
}
_SECONDS = 30.0  # a crontab program that asks a directory service may take a while


class Crontab:
    """One user's crontab.

    Args:
        command: the crontab program, with words before its own arguments if any.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self.command = command

    def read(self) -> str:
        """Its text, "" when the user has none. Bytes that are not UTF-8 come back in `write` as they were.

        Raises:
            CronFailed: the program failed otherwise. Taking that for "none" would delete the user's lines.
        """
        done = self._run(["-l"], b"")
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape")
        if _NONE_YET.search(_words(done.stderr)):
            return ""
        raise self._failure("read", done)

    def write(self, text: str) -> None:
        """Replaces it.

        Raises:
            CronFailed: the program refused it; the old one stands.
        """
        done = self._run(["-"], text.encode("utf-8", "surrogateescape"))
        if done.returncode != 0:
            raise self._failure("written", done)

    def _run(self, arguments: list[str], standard_input: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [*self.command, *arguments],
                input=standard_input,
                capture_output=True,
                env={**os.environ, "LC_ALL": "C"},  # "no crontab for" in words that we know
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise CronFailed(
                f"{self.command[-1]} cannot be run: {problem}", details={"command": list(self.command)}
            ) from problem

    def _failure(self, what: str, done: subprocess.CompletedProcess[bytes]) -> CronFailed:
        said = _words(done.stderr) or f"exit status {done.returncode}"
        denied = "not allowed" in said
        return CronFailed(
            f"your crontab cannot be {what}: {said}",
            hint="ask who runs this machine for your name in /etc/cron.allow" if denied else None,
            details={"command": list(self.command), "exit_status": done.returncode, "stderr": said},
        )


def users_crontab(environ: Mapping[str, str]) -> Crontab:
    """The crontab of the user who runs this.

    Raises:
        CronFailed: there is no crontab program; the hint says which package has it.
    """
    path = f"{environ.get('PATH', '')}:{_ELSEWHERE}"
    program = shutil.which("crontab", path=path)
    if program is None:
        raise CronFailed(
            "this machine has no crontab program",
            hint=package_hint(lambda name: shutil.which(name, path=path) is not None),
        )
    return Crontab((os.path.abspath(program),))


def package_hint(has: Callable[[str], bool]) -> str:
    """The command that installs a cron here, by the package manager this machine has."""
    return next(
        (command for manager, command in _INSTALLS.items() if has(manager)),
        "install the package cron or cronie",
    )


def daemon_seen(proc: Path = Path("/proc")) -> bool | None:
    """Whether a cron daemon is running; None where that cannot be told."""
    if sys.platform != "linux":
        return None
    names = set()
    for directory in proc.glob("[0-9]*"):
        try:
            names.add((directory / "comm").read_text(errors="replace").strip())
        except OSError:
            continue  # it has ended meanwhile
    return not names.isdisjoint(_DAEMONS)


def _words(stderr: bytes) -> str:
    return " ".join(stderr.decode(errors="replace").split())
