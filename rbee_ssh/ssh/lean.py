"""asyncssh, imported and sending without what rbee has no use for.

Every other module gets asyncssh from here. What is left out takes 30 of the 110 ms of its import, and is
optional to asyncssh itself:

- X.509 certificates. They are not OpenSSH's, and cryptography.x509 is loaded before asyncssh finds out that
  pyOpenSSL is missing.
- The search for liboqs (post-quantum key exchange, beside the one that cryptography has) where the loader's
  cache does not list it. ctypes.util.find_library then starts gcc and ld, twice.

A connection makes fewer packets and fewer system calls than by asyncssh itself. Sending a model, that is a
third of the time (scripts/bench push):

- asyncssh puts an empty SSH_MSG_IGNORE before every packet, against an attack on ciphers in CBC mode (RFC
  4251, 9.3.1). AES-GCM and ChaCha20-Poly1305 are not open to it.
- It writes a line of log for each packet, also where nobody keeps a log: rbee does not.
- It asks the kernel for a few random bytes of padding for each packet; here, for many packets at once.
- It hands each packet to the socket alone. Those of one turn of the event loop go out together here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CACHE = Path("/etc/ld.so.cache")
_X509 = "asyncssh.crypto.x509"
_find_library = ctypes.util.find_library


def _find_cached(name: str) -> str | None:
    """ctypes.util.find_library, for what the loader's cache lists; for all where there is no such cache."""
    try:
        listed = f"lib{name}.so".encode() in _CACHE.read_bytes()
    except OSError:
        listed = True
    return _find_library(name) if listed else None


@contextmanager
def _less() -> Iterator[None]:
    ctypes.util.find_library = _find_cached
    # None in the place of a module makes its import fail.
    sys.modules.setdefault(_X509, None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        ctypes.util.find_library = _find_library
        if sys.modules[_X509] is None:
            del sys.modules[_X509]


with _less():
    import asyncssh
    from asyncssh import connection as machinery
    from asyncssh.packet import SSHPacketLogger

__all__ = ["asyncssh", "streamline"]

MSG_IGNORE = 2
POOL = 4096  # random bytes asked for at once
_SAFE_CIPHERS = ("gcm", "poly1305")


def streamline(connection: asyncssh.SSHClientConnection) -> None:
    """Make a connection that has just logged in send so."""
    cipher = str(connection.get_extra_info("send_cipher", ""))
    safe = any(name in cipher for name in _SAFE_CIPHERS)
    send_packet, silent = connection.send_packet, _Silent()

    def send(kind: int, *args: bytes, **_: Any) -> None:
        if kind != MSG_IGNORE or not safe:
            send_packet(kind, *args, handler=silent)

    connection.send_packet = send  # type: ignore[method-assign, assignment]
    connection._transport = _Together(connection._transport)  # type: ignore[assignment]


class _Os:
    """The module os, with random bytes out of a pool. No byte is given out twice."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def urandom(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._pool):
            if size > POOL:
                return os.urandom(size)
            self._pool, end = os.urandom(POOL), size
            self._at = 0
        found, self._at = self._pool[self._at : end], end
        return found


vars(machinery)["os"] = _Os()


class _Silent(SSHPacketLogger):
    """Who is told of each packet that is sent, for a log."""

    def log_sent_packet(self, *_: Any, **__: Any) -> None: ...


class _Together:
    """A transport that keeps what is written until the event loop's next turn, and does all else at once."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            # As asyncssh: a connection that has ended since tells so by itself.
            with contextlib.suppress(ConnectionError):
                self._transport.write(b"".join(pending))
