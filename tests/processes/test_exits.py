"""How `rbee` ends: exit status, what it prints, and what signals and closed pipes do to it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from rbee_ssh.cli.entry import ECHO
from rbee_ssh.cli.event_loop import GRACE

PROBE = Path(__file__).parents[1] / "unit/cli/probe.py"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C"}


def rbee(
    *args: str, environ: dict[str, str], stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(PROBE), *args],
        env=environ,
        cwd=environ["HOME"],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_version(environ: dict[str, str]) -> None:
    done = rbee("--version", environ=environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "rbee 0.1.0\n", "")


def test_a_bug_is_one_line_and_its_traceback_a_private_file(environ: dict[str, str]) -> None:
    state = Path(environ["HOME"]) / "state"
    done = rbee("probe", "bug", environ={**environ, "XDG_STATE_HOME": str(state)})
    assert done.returncode == 1
    (saved,) = (state / "rbee").iterdir()
    assert (
        done.stderr.splitlines()[0]
        == f"error: unexpected ValueError: odd\\x1b[2J thing of http://host/a; the traceback is in {saved}"
    )
    assert "Traceback" not in done.stderr
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert "in probe" in saved.read_text()
    assert "hunter2" not in done.stderr + saved.read_text()
    debug = rbee("--debug", "probe", "bug", environ=environ)
    assert "Traceback" in debug.stderr and "hunter2" not in debug.stderr
    told = json.loads(rbee("--json", "probe", "bug", environ=environ).stdout)["error"]
    assert told["code"] == "UNEXPECTED" and Path(told["details"]["traceback"]).is_file()


def test_a_bug_is_told_even_where_nothing_can_be_saved(environ: dict[str, str]) -> None:
    done = rbee("probe", "bug", environ={**environ, "XDG_STATE_HOME": "/dev/null"})
    assert done.returncode == 1
    assert "could not be saved" in done.stderr and "Traceback" not in done.stderr


def test_somebody_elses_broken_pipe_is_not_taken_for_stdouts(environ: dict[str, str]) -> None:
    done = rbee("probe", "stray", environ=environ)
    assert done.returncode == 1
    assert "somebody else's pipe" in done.stderr


class Running:
    """A probe that has begun to wait."""

    def __init__(self, args: tuple[str, ...], environ: dict[str, str], before: Sequence[str] = ()) -> None:
        self.home = Path(environ["HOME"])
        self.process = subprocess.Popen(
            [*before, sys.executable, str(PROBE), *args],
            env=environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        begun = self.process.stderr if "full" in args else self.process.stdout
        assert begun.readline() == "ready\n"

    def end(self, seconds: float) -> tuple[int, str, str]:
        """Exit status, stdout and stderr; it must not take longer."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    @property
    def tidied(self) -> bool:
        return (self.home / "tidied").exists()


Start = Callable[..., Running]


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Start]:
    started: list[Running] = []

    def begin(*args: str, before: Sequence[str] = ()) -> Running:
        started.append(Running(args, environ, before))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("module", ["click", "signal", "__future__"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_the_imports_shows_no_traceback(
    number: int, module: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text("import time; print('importing', flush=True); time.sleep(60)\n")
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("rbee")), "nodes", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["waits", "returns", "fails", "sync"])
def test_a_signal_cancels(start: Start, number: signal.Signals, kind: str) -> None:
    probe = start("probe", kind)
    probe.process.send_signal(number)
    status, out, err = probe.end(5)
    assert (status, out) == (130, "")
    assert err.strip() == "cancelled"
    assert probe.tidied or kind == "sync"


@pytest.mark.parametrize("kind", ["waits", "sync"])
@pytest.mark.parametrize("gap", [0.0005, 0.002, 0.004, 0.008, 0.02])
def test_a_signal_that_comes_twice_is_one(start: Start, kind: str, gap: float) -> None:
    """`timeout -s INT` signals its child, and then the group that the child is in."""
    probe = start("probe", kind)
    probe.process.send_signal(signal.SIGINT)
    time.sleep(gap)
    if probe.process.poll() is None:
        probe.process.send_signal(signal.SIGINT)
    status, out, err = probe.end(5)
    assert (status, out, err.strip()) == (130, "", "cancelled")
    assert probe.tidied or kind == "sync"


def test_cancelling_is_an_error_for_a_program(start: Start) -> None:
    probe = start("--json", "probe", "waits")
    probe.process.send_signal(signal.SIGINT)
    status, out, err = probe.end(5)
    assert (status, err) == (130, "")
    assert json.loads(out)["error"]["code"] == "CANCELLED"


def test_the_second_signal_leaves_at_once(start: Start) -> None:
    probe = start("probe", "hangs")
    probe.process.send_signal(signal.SIGINT)
    assert probe.process.stdout is not None
    assert probe.process.stdout.readline() == "tidying\n"
    time.sleep(2 * ECHO)
    began = time.monotonic()
    probe.process.send_signal(signal.SIGINT)
    assert probe.end(5)[0] == 130
    assert time.monotonic() - began < GRACE / 2


def test_tidying_up_has_an_end(start: Start) -> None:
    probe = start("probe", "hangs")
    probe.process.send_signal(signal.SIGTERM)
    status, _, err = probe.end(GRACE + 5)
    assert (status, err) == (130, "cancelled; tidying up took too long\n")


def test_it_has_one_when_nobody_is_left_to_be_told(start: Start) -> None:
    probe = start("probe", "hangs")
    assert probe.process.stdout is not None and probe.process.stderr is not None
    probe.process.stderr.close()
    probe.process.send_signal(signal.SIGHUP)
    assert probe.process.stdout.readline() == "tidying\n"
    assert probe.process.wait(GRACE + 5) == 130


@pytest.mark.parametrize("gap", [0, 0.005, 0.01, 0.02])
def test_a_signal_that_comes_twice_is_one_when_stdout_is_gone(start: Start, gap: float) -> None:
    probe = start("--json", "probe", "waits")
    assert probe.process.stdout is not None
    probe.process.stdout.close()
    probe.process.send_signal(signal.SIGINT)
    time.sleep(gap)
    probe.process.send_signal(signal.SIGINT)
    assert probe.process.wait(5) == 141


def test_a_signal_reaches_a_command_whose_reader_does_not_read(start: Start) -> None:
    # It sits in a write to a full pipe, and the event loop does not turn.
    probe = start("probe", "full")
    time.sleep(0.3)
    probe.process.send_signal(signal.SIGINT)
    probe.process.send_signal(signal.SIGINT)
    time.sleep(2 * ECHO)
    probe.process.send_signal(signal.SIGINT)
    probe.process.wait(5)
    assert probe.process.returncode == 130


def test_what_the_parent_ignores_stays_ignored(start: Start) -> None:
    probe = start("probe", "waits", before=["nohup"])
    probe.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        probe.end(0.5)
    probe.process.send_signal(signal.SIGTERM)
    assert probe.end(5)[0] == 130


@pytest.mark.parametrize("args", [("probe", "yes"), ("--json", "probe", "yes"), ("-q", "probe", "yes")])
def test_a_closed_pipe_ends_us_quietly(environ: dict[str, str], args: tuple[str, ...]) -> None:
    script = f'"{sys.executable}" "{PROBE}" "$@" | head -c 10; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *args],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "y" * 10 + "141\n"
    assert done.stderr == ""


def test_a_closed_pipe_is_seen_while_there_is_nothing_to_write(start: Start) -> None:
    probe = start("probe", "silent")
    assert probe.process.stdout is not None and probe.process.stderr is not None
    probe.process.stdout.close()
    assert probe.process.wait(5) == 141
    assert probe.tidied
    assert probe.process.stderr.read() == ""


def test_help_into_a_closed_pipe_is_quiet_too(environ: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, str(PROBE), "--help"],
        env=environ,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "args", [["probe", "yes"], ["--json", "probe", "error"], ["--help"], ["--version"], ["nodes", "-h"]]
)
def test_a_full_disk_is_an_error(environ: dict[str, str], args: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(PROBE), *args], env=environ, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (
        1,
        b"error: stdout cannot be written: No space left on device\n",
    )
    assert not (Path(environ["HOME"]) / ".local").exists(), "no bug, and no traceback of it"


def test_without_stdout_and_stderr_it_still_ends_as_it_should(environ: dict[str, str]) -> None:
    for args, status in ((["probe", "error"], 1), (["--json", "probe", "error"], 1), (["nodes", "list"], 0)):
        script = f'"{sys.executable}" "{PROBE}" {" ".join(args)} >&- 2>&- <&-'
        assert subprocess.run(["sh", "-c", script], env=environ, timeout=30, check=False).returncode == status


def test_python_m_rbee_ssh_is_rbee(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rbee_ssh", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "rbee 0.1.0\n"


def test_a_terminal_without_a_prompt_is_not_waited_for(environ: dict[str, str]) -> None:
    reader, writer = os.openpty()
    try:
        done = rbee("--json", "infer", "-m", "m", environ=environ, stdin=writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert "terminal" in json.loads(done.stdout)["error"]["message"]


def test_a_closed_standard_input_is_no_prompt(environ: dict[str, str]) -> None:
    script = f'"{sys.executable}" "{PROBE}" infer -m m <&-'
    done = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard input is closed" in done.stderr
