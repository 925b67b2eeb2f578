"""What cron will be able to reach: `nodes status` as it runs here, and as it runs in cron's environment."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rbee_ssh.wording import quoted

ENOUGH = 120.0  # seconds for both; a node that does not answer takes a tenth of that


@dataclass(frozen=True, slots=True)
class Down:
    name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LoginTrial:
    """What one `nodes status --json` saw: the names of nodes that are up, and those that are down.

    `problem` says why it saw nothing.
    """

    up: frozenset[str] = frozenset()
    down: tuple[Down, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class CronVerdict:
    """What stands between cron and the nodes.

    `agent_only` let us in here and not without the SSH agent. `lost` are up here too, and fail under cron
    for another reason. `down` are down here as well.
    """

    agent_only: tuple[Down, ...] = ()
    lost: tuple[Down, ...] = ()
    down: tuple[Down, ...] = ()
    problem: str | None = None

    def warnings(self) -> list[str]:
        """A line for each thing the user should know."""
        told = [
            f"node {node.name}: only an SSH agent opens it, and cron has none; "
            "give it an identity_file that needs no passphrase"
            for node in self.agent_only
        ]
        told += [
            f"node {node.name}: up from here, and not in cron's environment: {node.code}, {node.message}"
            for node in self.lost
        ]
        told += [f"node {node.name} is down: {node.code}, {node.message}" for node in self.down]
        if self.problem:
            told.append(f"the nodes could not be tried in cron's environment: {self.problem}")
        return told


def verdict(here: LoginTrial, cron: LoginTrial) -> CronVerdict:
    """What cron will miss, from both looks."""
    if cron.problem or here.problem:
        return CronVerdict(problem=cron.problem or here.problem)
    missed = [node for node in cron.down if node.name in here.up]
    return CronVerdict(
        agent_only=tuple(node for node in missed if node.code == "AUTH_FAILED"),
        lost=tuple(node for node in missed if node.code != "AUTH_FAILED"),
        down=tuple(node for node in cron.down if node.name not in here.up),
    )


def read_look(stdout: str, stderr: str) -> LoginTrial:
    """What `nodes status --json` saw, whatever it printed."""
    try:
        said = json.loads(stdout)
        if "error" in said:
            return LoginTrial(problem=f"{said['error']['code']}: {said['error']['message']}")
        nodes = said["nodes"]
        return LoginTrial(
            up=frozenset(node["name"] for node in nodes if node["state"] == "up"),
            down=tuple(_down(node) for node in nodes if node["state"] != "up"),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        lines = stderr.strip().splitlines() or stdout.strip().splitlines() or ["no output"]
        return LoginTrial(problem=f"rbee nodes status printed {quoted(lines[-1], 200)}")


def _down(node: Mapping[str, Any]) -> Down:
    error = node.get("error") or {}
    return Down(
        str(node["name"]), str(error.get("code", "DOWN")), str(error.get("message", "no reason given"))
    )


def cron_environment(home: str, user: str) -> dict[str, str]:
    """All that a job of the user's crontab is given."""
    return {"HOME": home, "LOGNAME": user, "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}


def look_twice(
    argv: Sequence[str], environ: Mapping[str, str], cron: Mapping[str, str], timeout: float = ENOUGH
) -> tuple[LoginTrial, LoginTrial]:
    """Both looks at once: `argv nodes status --json` under `environ`, and under `cron` from its home.

    Neither has a terminal, so that nothing can ask for a passphrase.
    """
    command = [*argv, "nodes", "status", "--json"]
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as running:
        started = [
            running.enter_context(_start(command, dict(environment), directory))
            for environment, directory in ((environ, None), (cron, cron["HOME"]))
        ]
        here, there = [_finish(process, deadline - time.monotonic(), timeout) for process in started]
    return here, there


@contextlib.contextmanager
def _start(command: Sequence[str], environment: dict[str, str], directory: str | None) -> Any:
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as problem:
        yield problem
        return
    with process:
        try:
            yield process
        finally:
            process.kill()  # on Ctrl+C; it has ended otherwise


def _finish(process: subprocess.Popen[bytes] | OSError, seconds: float, timeout: float) -> LoginTrial:
    if isinstance(process, OSError):
        return LoginTrial(problem=str(process))
    try:
        stdout, stderr = process.communicate(timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        return LoginTrial(problem=f"no answer in {timeout:g} s")
    return read_look(stdout.decode(errors="replace"), stderr.decode(errors="replace"))
