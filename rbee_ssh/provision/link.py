"""A Fabric connection over an SshTransport, or invoke's Context on this machine, and a script run in either.

Nothing is read from disk for it: no ssh_config, known_hosts, key or agent (paramiko), no fabric.yaml or
invoke.yaml. One host key is known, and any other is refused.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
from base64 import b64decode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fabric
import paramiko
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import ThreadException

from rbee_ssh.errors import (
    AuthFailed,
    ConnectionLost,
    HostKeyChanged,
    HostKeyUnknown,
    NodeUnreachable,
    ResponseInvalid,
)
from rbee_ssh.provision import runners
from rbee_ssh.provision.line_writer import LineWriter
from rbee_ssh.provision.runners import Local, LocalScript, RemoteScript, TooMuch
from rbee_ssh.provision.signer import Offered
from rbee_ssh.provision.transport import SshTransport
from rbee_ssh.ssh import known_hosts
from rbee_ssh.ssh.quote import quote, wrap

# How long a connection that broke may take to end.
BROKEN_SECONDS = 1.0

# Whoever configures no logging gets paramiko's warnings on stderr, tracebacks among them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


@dataclass(slots=True)
class ScriptOutput:
    """How a script of ours ended: its exit status, and the last value of each key."""

    status: int = 0
    values: dict[str, str] = field(default_factory=dict)

    def value(self, key: str) -> str:
        return self.values.get(key, "")


@dataclass(slots=True)
class Link:
    """What tasks run in: `context` is a fabric.Connection, or invoke's Context on this machine.

    `cut` ends what runs in it, from any thread. `ssh` is what a user types before a command of that node,
    empty on this machine.
    """

    node: str
    ssh: str
    context: Context
    sink: LineWriter
    cut: Callable[[], None]

    @property
    def local(self) -> bool:
        return not isinstance(self.context, fabric.Connection)


def connected(transport: SshTransport, ssh: str, sink: LineWriter) -> Link:
    """Fabric's connection, logged in. Blocks: not for the event loop's thread. To be closed by `cut`.

    Raises:
        HostKeyUnknown, HostKeyChanged: the server shows another key than the one that was verified.
        AuthFailed, NodeUnreachable: the login.
    """
    connection = fabric.Connection(
        transport.host,
        user=transport.user,
        port=transport.port,
        config=_fabric_config(sink),
        connect_timeout=math.ceil(transport.timeouts.connect),
        connect_kwargs={
            "sock": transport.socket,
            "auth_strategy": Offered(transport),
            "banner_timeout": transport.timeouts.connect,
            "auth_timeout": transport.timeouts.connect * 2,
        },
    )
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    if transport.host_key:
        kind, _, data = transport.host_key.partition(" ")
        name = known_hosts.entry_name(transport.host, transport.port)
        key = paramiko.PKey.from_type_string(kind, b64decode(data))
        connection.client.get_host_keys().add(name, kind, key)
    _open(connection, transport)
    # paramiko only sends; that nobody answers is noticed by asyncssh's connection.
    connection.transport.set_keepalive(math.ceil(transport.timeouts.keepalive))

    def cut() -> None:
        # Not close(): it waits for paramiko's thread, which sees this at once.
        with suppress(OSError):
            transport.socket.shutdown(socket.SHUT_RDWR)

    return Link(transport.node, ssh, connection, sink, cut)


def on_this_machine(node: str, sink: LineWriter) -> Link:
    """The Context in which the same tasks run on localhost."""
    run = {**_run_config(sink), "shell": "/bin/sh"}
    config = Config(lazy=True, overrides={"run": run, "runners": {"local": Local}})
    return Link(node, "", Context(config=config), sink, LocalScript.cut)


def run_script(link: Link, body: str, args: Sequence[str]) -> ScriptOutput:
    """Run POSIX sh in the link, as ssh/script.py does: on the stdin of `sh`, its arguments quoted.

    The script's $1 is the mark that its own lines start with. It runs as long as its stdin is open: that is
    how it notices that nobody waits for it any more.

    Raises:
        ConnectionLost: the connection broke under it.
        ResponseInvalid: endless output.
    """
    mark = secrets.token_hex(8)
    output = ScriptOutput()

    def take(key: str, value: str) -> None:
        output.values[key] = value
        if key == "step":
            link.sink.tell(value)

    link.sink.listen(mark, take)
    runner = LocalScript(link.context) if link.local else RemoteScript(link.context)
    try:
        result = runner.run(wrap(body, [mark, *args], mark, payload=True), warn=True)
        output.status = result.exited if result is not None else -1
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _lost(link) from error
    except ThreadException as error:
        if any(isinstance(one.value, TooMuch) for one in error.exceptions):
            raise ResponseInvalid(f"{link.node}: more than {runners.MAX_OUTPUT} bytes of output") from error
        raise _lost(link) from error
    finally:
        link.sink.flush_rest()
        link.sink.listen(None, None)
    if output.status == -1 and not link.local:
        raise _lost(link)
    return output


def put(link: Link, local: Path, remote: str) -> None:
    """Copy a file to the node over SFTP; `remote` is relative to the home directory.

    Raises:
        ConnectionLost: the connection broke.
        OSError: either file; or the server has no SFTP.
    """
    try:
        link.context.sftp().put(str(local), remote)
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport = link.context.transport
        # paramiko closes the channels, and who uses one gets an OSError, a moment before it says so itself.
        transport.join(BROKEN_SECONDS)
        if not transport.is_active():
            raise _lost(link) from error
        if isinstance(error, OSError):
            raise
        raise OSError(f"the server has no SFTP ({error})") from error


def _run_config(sink: LineWriter) -> dict[str, Any]:
    """What a user's recipe inherits: no question is asked, nothing reaches stdout, bytes are UTF-8 or
    replaced."""
    streams = {"in_stream": False, "out_stream": sink, "err_stream": sink}
    return {**streams, "encoding": "utf-8", "echo": False, "pty": False}


def _fabric_config(sink: LineWriter) -> fabric.Config:
    # lazy: no file is looked for. An empty SSHConfig of ours: none is read in its place.
    return fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig(), overrides={"run": _run_config(sink)})


def _open(connection: fabric.Connection, transport: SshTransport) -> None:
    node = transport.node
    details = {"node": node, "host": transport.host, "port": transport.port}
    try:
        connection.open()
    except paramiko.BadHostKeyException as error:
        raise HostKeyChanged(
            f"the host key of node {node!r} is another one than a moment ago: {error.key.get_name()} "
            f"{error.key.fingerprint}. Nothing was sent to it",
            hint=f"rbee nodes status {node}",
            details={**details, "fingerprint": error.key.fingerprint},
        ) from error
    except paramiko.AuthenticationException as error:
        raise AuthFailed(
            f"node {node!r} accepted no key for user {transport.user!r} from Fabric",
            hint=f"rbee --verbose nodes status {node}",
            details=details,
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        if "not found in known_hosts" in str(error):
            raise HostKeyUnknown(
                f"the host key of node {node!r} is not known: {error}",
                hint=f"rbee nodes trust {node}",
                details=details,
            ) from error
        raise NodeUnreachable(
            f"node {node!r}: Fabric's login failed: {error or type(error).__name__}",
            hint=f"rbee nodes status {node}",
            details=details,
        ) from error


def _lost(link: Link) -> ConnectionLost:
    return ConnectionLost(
        f"the SSH connection to node {link.node!r} was lost while it was set up",
        hint=f"rbee nodes setup {quote(link.node)}   # goes on where it stopped",
        details={"node": link.node},
    )
