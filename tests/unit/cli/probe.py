"""A command of `rbee` whose ends the tests choose. In a process of its own: python probe.py probe KIND."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import click

from rbee_ssh.cli import main
from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.event_loop import run_async
from rbee_ssh.cli.options import command
from rbee_ssh.errors import NodeUnreachable


@command()
@click.argument("kind")
@pass_cli
def probe(cli: Cli, kind: str) -> None:
    """End in the way that KIND says."""
    console = cli.console
    if kind == "settings":
        console.json({name: getattr(cli, name) for name in ("as_json", "quiet", "verbose", "debug")})
        console.json(cli.inventory_path)
    elif kind == "error":
        raise NodeUnreachable("gpu\x1b[2J1 is off", hint="rbee nodes status", details={"tries": 3})
    elif kind == "bug":
        raise ValueError("odd\x1b[2J thing of http://me:hunter2@host/a?sign=hunter2")
    elif kind == "group":
        raise ExceptionGroup("", [OSError(), ExceptionGroup("", [NodeUnreachable("inner")])])
    elif kind == "stray":
        raise BrokenPipeError("somebody else's pipe")
    elif kind == "exit":
        click.get_current_context().exit(1)
    elif kind == "sync":
        console.line("ready")
        time.sleep(30)
    elif kind == "yes":
        while True:
            console.answer("y" * 1000)
    elif kind == "full":
        run_async(lambda: _fill(cli))
    elif kind == "silent":
        run_async(lambda: _wait(cli), stream=True)
    else:
        run_async(lambda: _wait(cli, kind))


async def _wait(cli: Cli, kind: str = "") -> None:
    cli.console.line("ready")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        if kind == "hangs":
            cli.console.line("tidying")
            await asyncio.sleep(30)
        if kind == "returns":
            return
        if kind == "fails":
            raise NodeUnreachable("lost while tidying up") from None
        raise
    finally:
        _tidy()


def _tidy() -> None:
    Path(os.environ["HOME"], "tidied").touch()


async def _fill(cli: Cli) -> None:
    cli.console.say("ready")
    while True:
        cli.console.answer("y" * 1000)
        await asyncio.sleep(0)


if __name__ == "__main__":
    # Imported under its own name, so that the command above is the one the group finds.
    sys.modules["probe"] = sys.modules["__main__"]
    main.COMMANDS["probe"] = "probe:probe"
    main.main()
