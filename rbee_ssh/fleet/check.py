"""`nodes check`: one connection to each node, a channel really opened, and one probe of all it has."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rbee_ssh.concurrency import gather_or_cancel
from rbee_ssh.errors import RbeeError, ResponseInvalid
from rbee_ssh.node import scripts
from rbee_ssh.node.checks import Check, Forwarding, NodeObservation, checks, clock_ahead
from rbee_ssh.node.probe import probe
from rbee_ssh.node.remedies import ssh_words_of
from rbee_ssh.node.untrusted_text import integer
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.pool import ConnectionPool
from rbee_ssh.workers import records

LISTEN = Path(scripts.__file__).with_name("listen.sh")
_LISTENS = 10.0  # seconds


async def check_nodes(
    pool: ConnectionPool, names: Sequence[str], on_node: Callable[[str, tuple[Check, ...]], None]
) -> dict[str, tuple[Check, ...]]:
    """Check these nodes, all at the same time, each tried once; `on_node` gets the checks as they come."""

    async def check_node(name: str) -> tuple[Check, ...]:
        done = checks(await _observe(pool, name))
        on_node(name, done)
        return done

    return dict(zip(names, await gather_or_cancel(check_node(name) for name in names), strict=True))


async def _observe(pool: ConnectionPool, name: str) -> NodeObservation:
    node = pool.inventory.nodes[name]
    seen = NodeObservation(node, None if node.embedded else ssh_words_of(node, pool.inventory.nodes))
    began = time.monotonic()
    try:
        connection = await pool.connect(name, tries=1)
        _observe_login(seen, connection, began)
        began = time.monotonic()
        word = secrets.token_hex(8)
        listen = script.running(connection, scripts.compose(LISTEN), [f"{_LISTENS:g}", word], payload=True)
        with contextlib.suppress(ResponseInvalid):  # endless output; the probe will say it better
            async with listen as listening:
                seen.shell = time.monotonic() - began
                seen.forwarding = await _forwarding(connection, listening, word.encode())
        before = time.time()
        answer = await probe(connection, node)
        seen.facts = answer.facts
        seen.problem = records.parse(answer.snapshot).problem
        seen.clock = clock_ahead(before, time.time(), answer.facts.clock)
    except RbeeError as error:
        seen.error = error
    return seen


def _observe_login(seen: NodeObservation, connection: Connection, began: float) -> None:
    """How long it took to get there, and in; and which key the other end has shown."""
    seen.address, seen.login = "localhost", connection.connect_seconds
    if connection.embedded:
        return
    ssh = connection.ssh
    host, port = (ssh.get_extra_info("peername") or ("", 0))[:2]
    seen.address = f"{host} port {port}" if host else ""
    if key := ssh.get_server_host_key():
        seen.host_key = f"{key.get_algorithm()} {key.get_fingerprint()}"
    if reached := ssh.get_extra_info("rbee_reached"):
        seen.reach, seen.login = reached - began, time.monotonic() - reached


async def _forwarding(connection: Connection, listening: script.RunningScript, word: bytes) -> Forwarding:
    """Connect to what listens there, by socket and by port, and read the word that it sends."""
    places: dict[str, str] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LISTENS):
            async for line in listening.lines():
                key, _, places[key] = line.partition("\t")
                if len(places) == 2:
                    break
    port = integer(places.get("port"))
    if not places.get("socket") or port is None:
        return Forwarding()
    unix, _ = await _opens(connection, places["socket"], None, word)
    tcp, seconds = await _opens(connection, None, port % 65536, word)
    listening.end_payload()
    return Forwarding(unix, tcp, seconds)


async def _opens(
    connection: Connection, socket: str | None, port: int | None, word: bytes
) -> tuple[bool, float]:
    """Whether a channel opens and brings the word, and how long its opening, or the refusal, took."""
    began = time.monotonic()
    seconds = None
    try:
        async with connection.stream(socket, port) as (reader, _):
            seconds = time.monotonic() - began
            async with asyncio.timeout(connection.timeouts.http_connect):
                return await reader.readexactly(len(word)) == word, seconds
    except (ChannelRefused, asyncio.IncompleteReadError, TimeoutError):
        return False, time.monotonic() - began if seconds is None else seconds
    except (asyncssh.Error, OSError) as error:
        raise connection.lost(error) from error
