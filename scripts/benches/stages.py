"""`rbee infer`, with a note of when each stage of its warm path was over. Prints them as JSON, at the end.

Wraps functions of rbee from outside, so nothing of this is in the product. RBEE_BENCH_BEGAN is the moment
(time.monotonic, in seconds) at which the process was about to be started.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

BEGAN = float(os.environ["RBEE_BENCH_BEGAN"])
stages: dict[str, float] = {}


def over(stage: str) -> None:
    stages.setdefault(stage, time.monotonic() - BEGAN)


over("interpreter")

from rbee_ssh.cli import main  # noqa: E402

over("click and the command line")


def watch() -> None:
    """Wrap what the stages after the imports go through."""
    from rbee_ssh.ssh import http
    from rbee_ssh.ssh.connector import Connector
    from rbee_ssh.workers.chat import ResponseStats

    over("imports")
    connect, request, take = Connector.connect, http.request, ResponseStats.take

    async def connected(self: Connector, *args: Any, **options: Any) -> Any:
        over("inventory, registry")
        connection = await connect(self, *args, **options)
        over("SSH login")
        return connection

    @contextlib.asynccontextmanager
    async def requested(*args: Any, **options: Any) -> AsyncIterator[Any]:
        async with request(*args, **options) as answer:
            over("channel, request")
            yield answer

    def taken(self: ResponseStats, piece: Any) -> Any:
        events = take(self, piece)
        if events:
            over("first token")
        return events

    Connector.connect = connected  # type: ignore[method-assign]
    http.request = requested
    ResponseStats.take = taken  # type: ignore[method-assign]


def run() -> int:
    context: Any = importlib.import_module("rbee_ssh.cli.context")
    importlib.import_module("rbee_ssh.cli.infer")
    real = context.Cli.run

    def watched(*args: Any, **options: Any) -> Any:
        watch()
        return real(*args, **options)

    context.Cli.run = watched
    return main.run(sys.argv[1:])


status = run()
over("end")
print(json.dumps(stages))
sys.exit(status)
