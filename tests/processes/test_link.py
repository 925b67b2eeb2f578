"""Scripts in invoke's Context on this machine; and that neither it nor Fabric reads a file of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import fabric
import pytest

from rbee_ssh.errors import ResponseInvalid
from rbee_ssh.provision import link, runners
from rbee_ssh.provision.line_writer import LineWriter
from rbee_ssh.provision.link import Link, ScriptOutput
from rbee_ssh.reporter import SilentReporter

T = TypeVar("T")
LIB = Path(link.__file__).with_name("steps.sh").read_text()


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def with_link(work: Callable[[Link], T], reporter: Heard | None = None) -> T:
    """Run `work` in a thread, as a session does."""

    async def body() -> T:
        sink = LineWriter(reporter or Heard(), asyncio.get_running_loop())
        return await asyncio.to_thread(work, link.on_this_machine("here", sink))

    return asyncio.run(body())


def test_a_script_tells_steps_values_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    reporter = Heard()
    body = (
        LIB
        + 'tell step "first $1"\ntell a b\necho out; echo err >&2; printf "no\\rend"\npwd >there\nexit 7\n'
    )
    said = with_link(lambda opened: link.run_script(opened, body, ["it's"]), reporter)
    assert said == ScriptOutput(7, {"step": "first it's", "a": "b"})
    assert reporter.lines == ["first it's", "  out", "  err", "  no", "  end"]
    assert (tmp_path / "there").read_text() == f"{tmp_path}\n"


def test_noise_before_the_script_is_not_told() -> None:
    reporter = Heard()

    async def body() -> None:
        sink = LineWriter(reporter, asyncio.get_running_loop())
        sink.listen("mark", lambda key, value: None)
        sink.write("Welcome to this machine!\nmark")
        sink.write("\nreal\nmark\tstep\tx\n")
        sink.listen(None, None)
        await asyncio.sleep(0)

    asyncio.run(body())
    assert reporter.lines == ["  real"]


def test_what_a_script_has_started_ends_when_it_is_cut_off(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    body = LIB + f"watch\nsh -c 'echo $$ >{pid}; exec sleep 600'\nexit 0\n"

    def work(opened: Link) -> ScriptOutput:
        threading.Thread(target=cut_when, args=(pid, opened)).start()
        return link.run_script(opened, body, [])

    began = time.monotonic()
    assert with_link(work).status != 0
    assert time.monotonic() - began < 60
    assert not lives(int(pid.read_text()))


def lives(pid: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def cut_when(path: Path, opened: Link) -> None:
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    opened.cut()


def test_the_watcher_ends_with_its_script() -> None:
    said = with_link(lambda opened: link.run_script(opened, LIB + "watch\ntell w $watcher\nexit 0\n", []))
    assert said.status == 0
    end = time.monotonic() + 30
    while lives(int(said.value("w"))):
        assert time.monotonic() < end, "the watcher lives on"
        time.sleep(0.01)


def test_endless_output_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "MAX_OUTPUT", 100_000)
    with pytest.raises(ResponseInvalid):
        with_link(lambda opened: link.run_script(opened, "yes | head -c 200000; exit 0\n", []))


def test_no_configuration_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FABRIC_RUN_DRY", "1")
    for name in (".fabric.yaml", ".invoke.yaml"):
        (tmp_path / name).write_text("run:\n  dry: true\nuser: mallory\ngateway: mallory@evil.example\n")
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Host *\n  HostName evil.example\n  ProxyCommand touch evil\n")

    async def body() -> None:
        sink = LineWriter(SilentReporter(), asyncio.get_running_loop())
        config = link._fabric_config(sink)
        connection = fabric.Connection("node", user="ada", port=22, config=config)
        assert (connection.host, connection.user, connection.gateway) == ("node", "ada", None)
        assert connection.config.run.dry is False
        assert link.on_this_machine("here", sink).context.config.run.dry is False

    asyncio.run(body())
