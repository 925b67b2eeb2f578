"""The node inside this process behaves as sshd does: a real client and a real server on a socket pair."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.ssh.script import ScriptResult

LOCALHOST = Node("localhost", "localhost")


def run(body: str, *args: str) -> ScriptResult:
    async def work() -> ScriptResult:
        connection = await Connector({}, Timeouts()).connect(LOCALHOST)
        try:
            return await script.run(connection, body, args)
        finally:
            await connection.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("exit 3", ScriptResult(3, "", "")),
        ("printf 'no end of line'; echo story >&2", ScriptResult(0, "no end of line", "story\n")),
        ("kill -TERM $$", ScriptResult(143, "", "")),
        ("cat; echo read", ScriptResult(0, "read", "")),
        ('printf "%s." "$@"', ScriptResult(0, "a b.$(c).'.", "")),
    ],
)
def test_a_script_ends_as_under_sshd(body: str, result: ScriptResult) -> None:
    said = run(body, "a b", "$(c)", "'")
    assert (said.status, said.stdout) == (result.status, result.stdout)
    assert said.stderr.replace("Terminated\n", "") == result.stderr


def test_it_starts_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("pwd").stdout == str(tmp_path)


def test_a_home_that_is_not_there_is_no_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    assert run("pwd").stdout == "/"


# What a user does who presses Ctrl+C while a script holds the node's lock.
INTERRUPTED = """
import sys
from rbee_ssh.cli.event_loop import run_async
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connector import Connector

async def work():
    connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))
    try:
        wait = 'until [ -e "$1/go" ]; do sleep 0.05; done'
        await script.run(connection, f'echo $$ >"$1/started"; {wait}; echo whole >"$1/ended"', sys.argv[1:])
    finally:
        await connection.close()

run_async(work)
"""


def test_a_script_goes_on_when_its_caller_is_interrupted(tmp_path: Path) -> None:
    caller = subprocess.Popen([sys.executable, "-c", INTERRUPTED, tmp_path], stderr=subprocess.DEVNULL)
    until(tmp_path / "started")
    caller.send_signal(signal.SIGINT)
    caller.wait(timeout=10)
    (tmp_path / "go").touch()
    until(tmp_path / "ended")


@pytest.mark.parametrize(
    ("body", "turns"), [*(("cat", n) for n in range(4, 16)), *(("yes", n) for n in range(0, 16, 4))]
)
def test_who_leaves_at_any_step_of_a_script_leaves_no_child_behind(body: str, turns: int) -> None:
    """At any step of its start, or of its end. A child not collected is a warning: an error here."""

    async def held(connection: Connection) -> None:
        async with script.running(connection, body):
            await asyncio.sleep(60)

    async def work() -> None:
        connection = await Connector({}, Timeouts()).connect(LOCALHOST)
        asking = asyncio.ensure_future(held(connection))
        if body == "yes":
            await asyncio.sleep(0.05)  # until it waits for a reader
            connection.ssh.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await connection.close()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(work())
    gc.collect()


def test_what_a_script_does_not_read_is_not_waited_for() -> None:
    async def work() -> None:
        connection = await Connector({}, Timeouts()).connect(LOCALHOST)
        async with script.running(connection, "exec sleep 4", payload=True) as deaf:
            await deaf.send(bytes(2**20))  # more than a pipe holds
            await connection.close()

    asyncio.run(work())
    gc.collect()


def until(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


NAMELESS = """
import asyncio
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connector import Connector

async def work():
    connection = await Connector({}, Timeouts()).connect(Node("localhost", "localhost"))
    print((await script.run(connection, "id -u")).stdout)
    await connection.close()

asyncio.run(work())
"""


def test_a_user_without_a_name_as_in_a_container() -> None:
    become = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    if subprocess.run([*become, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel refuses user namespaces")
    kept = {name: value for name, value in os.environ.items() if name.startswith("PYTHON") or name == "PATH"}
    said = subprocess.run(
        [*become, sys.executable, "-c", NAMELESS],
        env=kept | {"HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.stdout.strip(), said.returncode) == ("54321", 0), said.stderr
