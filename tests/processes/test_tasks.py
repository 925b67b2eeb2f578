"""An archive sent to a server that misbehaves, by Fabric."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import fabric
import pytest
from unit.ssh.servers import talk

from rbee_ssh.errors import ConnectionLost, SetupFailed
from rbee_ssh.provision import link, tasks
from rbee_ssh.provision.line_writer import LineWriter
from rbee_ssh.provision.link import Link
from rbee_ssh.provision.transport import SshTransport
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.lean import asyncssh


class Files(asyncssh.SFTPServer):
    """Takes files and keeps none."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        return io.BytesIO()


class Full(Files):
    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        raise asyncssh.SFTPFailure("no space")


class HangsUp(Files):
    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        self.channel.get_connection().abort()
        return len(data)


def sent(archive: Path, files: object, feed: Callable[[Link], None] = lambda opened: None) -> None:
    """Send a file to a server with this SFTP; `feed` runs beside it, in a thread."""

    async def work(connection: Connection) -> None:
        key = connection.ssh.get_server_host_key()
        assert key is not None
        host, port = connection.ssh.get_extra_info("peername")[:2]
        way = SshTransport(
            node="far",
            host=host,
            port=port,
            user="me",
            host_key=" ".join(key.export_public_key("openssh").decode().split()[:2]),
            keys=tuple(asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])),
            socket=socket.create_connection((host, port)),
            loop=asyncio.get_running_loop(),
            timeouts=connection.timeouts,
        )
        sink = LineWriter(SilentReporter(), way.loop)

        def send() -> None:
            opened = link.connected(way, "", sink)
            feeding = threading.Thread(target=feed, args=(opened,), daemon=True)
            feeding.start()
            try:
                tasks._upload(opened, "directory", archive)
            finally:
                opened.cut()
                feeding.join()

        await asyncio.to_thread(send)

    talk(None, work, sftp_factory=files)


@pytest.mark.parametrize(
    ("files", "words"), [(Full, "no space"), (False, "the server has no SFTP")], ids=["full", "no-sftp"]
)
def test_a_file_that_the_server_does_not_take(tmp_path: Path, files: object, words: str) -> None:
    archive = tmp_path / "llama.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(SetupFailed, match=words):
        sent(archive, files)


def test_a_connection_that_goes_between_two_pieces_of_a_file_is_lost(tmp_path: Path) -> None:
    archive = tmp_path / "llama.zip"
    os.mkfifo(archive)

    def feed(opened: Link) -> None:
        with contextlib.suppress(BrokenPipeError), archive.open("wb", buffering=0) as pipe:
            pipe.write(bytes(64 * 1024))
            assert isinstance(opened.context, fabric.Connection)
            opened.context.transport.join(60)
            pipe.write(bytes(64 * 1024))

    with pytest.raises(ConnectionLost):
        sent(archive, HangsUp, feed)
