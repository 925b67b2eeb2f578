"""One node, open for tasks: they block, so each runs in a thread while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.inventory import Node
from rbee_ssh.provision import link, transport
from rbee_ssh.provision.line_writer import LineWriter
from rbee_ssh.provision.link import Link
from rbee_ssh.reporter import Reporter
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.connector import Connector

P = ParamSpec("P")
T = TypeVar("T")

# How long a task that was cut off may take to see it, before nobody waits for it any more.
CUT_SECONDS = 3.0


class Session:
    """A link to a node, as good as `connection` is: when that one is lost, so is this."""

    def __init__(self, open_link: Link, connection: Connection) -> None:
        self._link = open_link
        self._connection = connection

    async def run(self, task: Callable[Concatenate[Link, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a task; whoever is cancelled here cuts it off.

        Raises:
            Exception: what the task raises.
        """
        running = in_daemon_thread(lambda: task(self._link, *args, **kwargs))
        lost = asyncio.ensure_future(self._connection.ssh.wait_closed())
        try:
            both: set[asyncio.Future[Any]] = {running, lost}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self._link.cut()
            return await running
        except asyncio.CancelledError:
            self._link.cut()
            await asyncio.wait({running}, timeout=CUT_SECONDS)
            if running.done() and not running.cancelled():
                running.exception()  # was looked at
            raise
        finally:
            lost.cancel()


@contextlib.asynccontextmanager
async def session(
    node: Node, connection: Connection, wire: Connector, reporter: Reporter, *, ssh: str, prefix: str = ""
) -> AsyncIterator[Session]:
    """A session with a node that `connection` of `wire` leads to.

    Args:
        ssh: what a user types before a command of that node.
        prefix: put before each line that is told.

    Raises:
        NodeFault: the way there, or Fabric's login.
    """
    sink = LineWriter(reporter, asyncio.get_running_loop(), prefix)
    if connection.embedded:
        yield Session(link.on_this_machine(node.name, sink), connection)
        return
    async with transport.to_node(node, connection, wire) as there:
        opened = await in_daemon_thread(lambda: link.connected(there, ssh, sink))
        try:
            yield Session(opened, connection)
        finally:
            opened.cut()
