"""A worker that its node calls ready, and that nobody gets through to: why, and what is done about it."""

from __future__ import annotations

from rbee_ssh.errors import ForwardingRefused
from rbee_ssh.ssh.connection import ChannelRefused, Connection
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.workers import records
from rbee_ssh.workers.fleet import Fleet, Serving
from rbee_ssh.workers.look import one
from rbee_ssh.workers.own import own
from rbee_ssh.workers.records import Record
from rbee_ssh.workers.stop import stop_on


async def put_right(fleet: Fleet, serving: Serving) -> None:
    """Stop the worker if it has lost its socket, port or key: it could not be used before its lease ends.

    To be asked only when several requests failed: a worker whose retirement is being tried is out of reach
    for some milliseconds.

    Raises:
        ForwardingRefused: it has both, so that it must be the SSH server that does not let us through.
        NodeFault: the connection or its shell.
    """
    connection, name = serving.connection, serving.entry.id
    record = await one(connection, name)
    if record is None or record.state not in ("idle", "busy"):
        return
    entry = records.entry(record, connection.name)
    there = await own(connection, entry)
    if there and record.key:
        raise await forwarding_refused(connection, record)
    lost = "key" if there else "port" if entry.socket is None else "socket"
    fleet.story.warn(f"worker {name} on {connection.name} has lost its {lost} and is stopped")
    await stop_on(connection, [name], drain=connection.timeouts.drain)


async def forwarding_refused(connection: Connection, record: Record) -> ForwardingRefused:
    """The worker lives and listens, and the channel to it does not open."""
    unix = bool(record.text("socket"))
    directive = "AllowStreamLocalForwarding" if unix else "AllowTcpForwarding"
    fix = f"{directive} yes (or local) in its sshd_config"
    if not unix:
        what = (
            f"{directive} is off, PermitOpen leaves 127.0.0.1 out, or the key's line in authorized_keys says "
            "restrict"
        )
    elif await _tcp_is_forbidden(connection):
        what = (
            "no channel at all: restrict in the key's line of authorized_keys, or DisableForwarding in its "
            "sshd_config"
        )
        fix += ", and restrict,port-forwarding in that line"
    else:
        what = f"{directive} is off"
        fix = f'set listen = "tcp" for node {connection.name} in the inventory, or {fix}'
    return ForwardingRefused(
        f"node {connection.name!r}: its SSH server does not let us reach the worker: {what}",
        hint=fix,
        details={"node": connection.name, "directive": directive},
    )


async def _tcp_is_forbidden(connection: Connection) -> bool:
    """Whether the server refuses a channel to a port, too. Of a stream-local one it never says why."""
    try:
        async with connection.stream(None, 1):
            return False
    except ChannelRefused as refused:
        return getattr(refused.__cause__, "code", None) == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
