"""What the crontab's line runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rbee_ssh.cli.cron.job import Account, Job, carried_environment, job, own_program
from rbee_ssh.errors import UsageInvalid

ACCOUNT = Account("me", "/home/me")


def a_job(
    *,
    every: float = 300.0,
    idle: float | None = None,
    inventory: Path | None = None,
    environ: dict[str, str] | None = None,
) -> Job:
    return job(
        every=every,
        idle=idle,
        inventory=inventory,
        program=("/opt/rbee",),
        account=ACCOUNT,
        environ=environ or {"HOME": "/home/me"},
    )


def test_the_plain_line() -> None:
    assert a_job().line() == (
        "*/5 * * * * /opt/rbee cleanup >>/home/me/.local/state/rbee/cron.log 2>&1 # rbee-cleanup"
    )


def test_idle_and_inventory_are_spelled_out() -> None:
    line = a_job(idle=90.0, inventory=Path("/etc/rbee/my nodes.toml")).line()
    assert "/opt/rbee --inventory '/etc/rbee/my nodes.toml' cleanup --idle 90s >>" in line


def test_a_relative_inventory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"--inventory {tmp_path}/sub/i.toml " in a_job(inventory=Path("x/../sub/i.toml")).line()


def test_what_decides_on_our_files_goes_along() -> None:
    environ = {"HOME": "/tmp/other", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c", "PATH": "/p"}
    planned = a_job(environ=environ)
    words = ("/usr/bin/env", "XDG_CONFIG_HOME=/c", "XDG_STATE_HOME=/s", "HOME=/tmp/other", "/opt/rbee")
    assert planned.rbee == words
    assert planned.log == Path("/s/rbee/cron.log")


@pytest.mark.parametrize(
    "environ",
    [{}, {"HOME": "/home/me/"}, {"HOME": "relative"}, {"XDG_STATE_HOME": "relative"}, {"XDG_STATE_HOME": ""}],
)
def test_what_cron_sets_itself_does_not(environ: dict[str, str]) -> None:
    assert carried_environment(environ, ACCOUNT) == {}


def test_an_uneven_span_names_the_option_and_the_nearest() -> None:
    with pytest.raises(UsageInvalid, match=r"--every: .* 7m; the nearest it can are 6m and 10m"):
        a_job(every=420)


def test_a_path_that_no_crontab_can_carry_is_refused() -> None:
    with pytest.raises(UsageInvalid, match="cannot carry"):
        a_job(inventory=Path("/a\nb")).line()


def test_our_own_program_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "rbee"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert own_program(str(program), sys.executable) == (str(program),)
    monkeypatch.chdir(tmp_path)
    assert own_program("bin/rbee", sys.executable) == (str(program),)
    monkeypatch.setenv("PATH", str(program.parent))
    assert own_program("rbee", sys.executable) == (str(program),)


@pytest.mark.parametrize("argv0", ["/nowhere/rbee", sys.executable, "", __file__])
def test_without_a_program_of_that_name_python_runs_it(argv0: str) -> None:
    assert own_program(argv0, "/usr/bin/python3") == ("/usr/bin/python3", "-m", "rbee_ssh.cli.main")
