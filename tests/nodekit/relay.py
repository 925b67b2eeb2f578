"""A slow line to a node: a TCP relay in front of its sshd, since no kernel here delays packets by itself."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from nodekit.node import LabNode


class Relay:
    """Listens on a port of 127.0.0.1 and passes everything on to a node, late. A context manager.

    Args:
        node: its sshd is at the other end.
        delay: seconds that every byte takes, each way; a round trip takes twice that.

    Attributes:
        address, port: where to log in instead.
    """

    address = "127.0.0.1"

    def __init__(self, node: LabNode, delay: float) -> None:
        self.node, self.delay = node, delay
        self._listener = socket.create_server((self.address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def keys(self) -> dict[str, str | int]:
        """The way to the node through here, for its table in an inventory."""
        return {"host": self.address, "port": self.port, "user": self.node.user}

    @property
    def host_key_line(self) -> str:
        """Its line for known_hosts: the node's own key, under this address."""
        key = self.node.host_key_line.split(" ", 1)[1]
        return f"[{self.address}]:{self.port} {key}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is shut down wakes up whoever reads it, which closing does not. First who makes new ones.
        with self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._threads[0].join()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(here)
            try:
                there = socket.create_connection((self.node.address, self.node.port), 10)
            except OSError:
                here.close()
                continue
            there.settimeout(None)
            self._sockets.append(there)
            for end in (here, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((here, there), (there, here)):
                line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                self._start(self._read, source, line)
                self._start(self._write, line, sink)

    def _read(self, source: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""  # a reset arrives as an end
            line.put((time.monotonic() + self.delay, data))

    def _write(self, line: queue.SimpleQueue[tuple[float, bytes]], sink: socket.socket) -> None:
        data = b"."
        while data:
            due, data = line.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                if data:
                    sink.sendall(data)
                else:
                    sink.shutdown(socket.SHUT_WR)
