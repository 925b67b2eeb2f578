"""localhost as a node: an SSH server in this process, on a private TCP socket pair.

One code path for every node, no sshd needed, and no port stays open: a loopback listener lives for the few
microseconds in which our own client connects, and whoever else was quicker is turned away. Both ends make
fresh keys, so nothing that could be stolen is stored. (asyncssh needs TCP: on an AF_UNIX pair its client
fails on the peer's name.)
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import pwd
import socket
from collections.abc import Coroutine
from typing import Any

from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.ssh.lean import asyncssh


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """(server end, client end) of a TCP connection from this process to itself.

    Raises:
        NodeUnreachable: loopback TCP does not work here, or another process keeps taking the connection.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(8)
            listener.settimeout(5)
            client = socket.create_connection(listener.getsockname(), timeout=5)
            ours = client.getsockname()
            for _ in range(16):
                server, peer = listener.accept()
                if peer == ours:
                    for end in (server, client):
                        end.setblocking(False)
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return server, client
                server.close()
            client.close()
    except OSError as error:
        raise NodeUnreachable(
            f"localhost: no TCP connection to 127.0.0.1 from this process: {error}",
            hint="ip addr show lo",
        ) from error
    raise NodeUnreachable("localhost: another process connects to every port that is opened", hint="ss -tlnp")


class EmbeddedServer:
    """The server end, and what runs under it."""

    def __init__(self, connection: asyncssh.SSHServerConnection, scripts: set[_Script]) -> None:
        self._connection = connection
        self._scripts = scripts

    async def close(self) -> None:
        self._connection.close()
        with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(2):
                await self._connection.wait_closed()
        self._connection.abort()  # whoever still writes to it stops
        # Each collects its child: at the end of the event loop there would be no time for that.
        ending = [script.stop() for script in self._scripts]
        if ending:
            await asyncio.wait(ending, timeout=10)


class _Server(asyncssh.SSHServer):
    def unix_connection_requested(self, dest_path: str) -> bool:
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        # Only what rbee itself asks for: a worker with listen = "tcp".
        return dest_host == "127.0.0.1"


# The script has a shell in front of it that only waits. Whatever asyncio kills when a command ends early,
# it is that shell: the script goes on, as under sshd, and lets go of the lock it may hold.
_FRONT = 'exec 3<&0; /bin/sh -c "$1" <&3 3<&- & exec 3<&- </dev/null; wait "$!"'


class _Script:
    """What sshd does for an exec request: the command under sh, in the home directory."""

    def __init__(self) -> None:
        self._transport: asyncio.SubprocessTransport | None = None
        self._stopped = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self) -> asyncio.Future[None]:
        """Let go of the command; what is given back is done once nothing of it is left here.

        Not a cancellation: in the middle of asyncio's start of a child, that waits for the child's own end.
        """
        self._stopped = True
        if self._transport is not None:
            self._close(self._transport)
        return self.ended

    @staticmethod
    def _close(transport: asyncio.SubprocessTransport) -> None:
        stdin = transport.get_pipe_transport(0)
        if isinstance(stdin, asyncio.WriteTransport) and stdin.get_write_buffer_size():
            stdin.abort()  # a close would wait until the script has read it
        transport.close()

    async def run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._transport, protocol = await loop.subprocess_exec(
                lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=65536, loop=loop),
                *("/bin/sh", "-c", _FRONT, "sh", process.command or "exit 1"),
                cwd=_home(),
                # Not in our process group: Ctrl+C on our terminal must not reach a script that holds a lock.
                start_new_session=True,
            )
            if self._stopped:
                self._close(self._transport)
            await self._serve(process, asyncio.subprocess.Process(self._transport, protocol, loop))
        finally:
            self.ended.set_result(None)

    async def _serve(
        self, process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process
    ) -> None:
        if child.stdin is None or child.stdout is None or child.stderr is None:
            raise RuntimeError("a child with three pipes has none")
        feed = asyncio.ensure_future(_feed(process.stdin, child.stdin))
        try:
            with contextlib.suppress(asyncssh.Error, OSError):
                await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
                process.exit(await child.wait())
        finally:
            feed.cancel()
            self.stop()
            # It is killed, and collected whoever else wants us to end now.
            while child.returncode is None:
                with contextlib.suppress(asyncio.CancelledError):
                    await child.wait()
            await asyncio.gather(feed, return_exceptions=True)


def _home() -> str:
    """Where a script starts: the home directory; the root where there is none, as under sshd."""
    home = os.environ.get("HOME")
    if not home:
        with contextlib.suppress(KeyError):
            home = pwd.getpwuid(os.getuid()).pw_dir
    return home if home and os.access(home, os.X_OK) and os.path.isdir(home) else "/"


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


async def _pump(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()


async def serve() -> tuple[asyncssh.SSHClientConnection, EmbeddedServer]:
    """Both ends of a connection to this machine, as the current user."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        # A container's user without a name: asyncssh asks for one, on either end, and uses it for nothing.
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    server_end, client_end = socket_pair()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    client_key = asyncssh.generate_private_key("ssh-ed25519")
    scripts: set[_Script] = set()

    def run(process: asyncssh.SSHServerProcess[bytes]) -> Coroutine[Any, Any, None]:
        script = _Script()
        scripts.add(script)  # before its task begins: whoever closes now finds it
        script.ended.add_done_callback(lambda _: scripts.discard(script))
        return script.run(process)

    fast: dict[str, Any] = {
        "kex_algs": ["curve25519-sha256"],
        "encryption_algs": ["aes128-gcm@openssh.com", "aes128-ctr"],
        "compression_algs": ["none"],
    }
    user = "rbee"
    serving = asyncio.ensure_future(
        asyncssh.run_server(
            server_end,
            server_factory=_Server,
            server_host_keys=[host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(client_key.export_public_key().decode()),
            process_factory=run,
            encoding=None,
            gss_host=None,
            allow_pty=False,
            agent_forwarding=False,
            **fast,
        )
    )
    connecting = asyncio.ensure_future(
        asyncssh.run_client(
            client_end,
            config=None,
            username=user,
            client_keys=[client_key],
            agent_path=None,
            known_hosts=([host_key.convert_to_public()], [], []),
            preferred_auth=["publickey"],
            gss_host=None,
            **fast,
        )
    )
    try:
        server, client = await asyncio.gather(serving, connecting)
    except BaseException:
        await _undo(serving, connecting)
        # Whoever was cancelled before it took its end has not closed it.
        server_end.close()
        client_end.close()
        raise
    return client, EmbeddedServer(server, scripts)


async def _undo(*ends: asyncio.Future[Any]) -> None:
    """Close what one end has made of a connection when there is no other."""
    for end in ends:
        end.cancel()
    for made in await asyncio.gather(*ends, return_exceptions=True):
        if isinstance(made, asyncssh.SSHClientConnection | asyncssh.SSHServerConnection):
            made.abort()
            await made.wait_closed()
