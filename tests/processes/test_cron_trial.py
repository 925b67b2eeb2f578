"""What a program answers in cron's environment, and that one which hangs is ended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.cli.cron.trial import cron_environment, look_twice


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A stand-in for rbee: tells the environment, arguments and directory it was given as a node's error."""
    path = tmp_path / "rbee"
    path.write_text(
        "#!/bin/sh\n"
        'seen="$*|$(env | sort | tr "\\n" " ")|$(pwd)|$(tty)"\n'
        'printf \'{"nodes":[{"name":"n","state":"down","error":{"code":"X","message":"%s"}}]}\' "$seen"\n'
    )
    path.chmod(0o755)
    return path


def test_cron_gets_its_own_environment_and_home_and_no_terminal(program: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "SSH_AUTH_SOCK": "/agent"}
    here, cron = look_twice([str(program)], environ, cron_environment(str(tmp_path), "me"))
    assert "SSH_AUTH_SOCK=/agent" in here.down[0].message
    arguments, environment, directory, terminal = cron.down[0].message.split("|")
    assert arguments == "nodes status --json"
    names = {word.split("=")[0] for word in environment.split()} - {"_", "PWD"}  # which sh sets itself
    assert names == {"HOME", "LOGNAME", "PATH", "SHELL"}
    assert "PATH=/usr/bin:/bin " in environment
    assert directory == str(tmp_path)
    assert terminal == "not a tty"


def test_a_program_that_hangs_is_given_up_and_ended(tmp_path: Path) -> None:
    path = tmp_path / "rbee"
    path.write_text(f'#!/bin/sh\necho $$ >>"{tmp_path}/pids"\nexec sleep 60\n')
    path.chmod(0o755)
    began = time.monotonic()
    here, cron = look_twice([str(path)], os.environ, cron_environment(str(tmp_path), "me"), timeout=2)
    assert time.monotonic() - began < 15
    assert here.problem == cron.problem == "no answer in 2 s"
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_program_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    missing: Any = tmp_path / "rbee"
    here, cron = look_twice([str(missing)], os.environ, cron_environment(str(tmp_path), "me"))
    assert "No such file" in (here.problem or "")
    assert "No such file" in (cron.problem or "")
