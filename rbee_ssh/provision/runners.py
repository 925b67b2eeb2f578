"""How a script of ours is run: invoke's runners, with the script on the stdin of `sh` and bounded output."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, ClassVar

import fabric.runners
import invoke.runners

# More than a compiler says while it builds an engine.
MAX_OUTPUT = 64 * 1024 * 1024


class TooMuch(Exception):
    """More output than any installation makes."""


class _Bounded:
    """Counts what is read from a program."""

    _count = 0

    def _counted(self, data: bytes | None) -> bytes | None:
        self._count += len(data or b"")
        if self._count > MAX_OUTPUT:
            raise TooMuch
        return data

    def read_proc_stdout(self, num_bytes: int) -> bytes | None:
        return self._counted(super().read_proc_stdout(num_bytes))  # type: ignore[misc]

    def read_proc_stderr(self, num_bytes: int) -> bytes | None:
        return self._counted(super().read_proc_stderr(num_bytes))  # type: ignore[misc]


class RemoteScript(_Bounded, fabric.runners.Remote):  # type: ignore[misc]
    """The command is the bare word `sh`; the script goes to its stdin."""

    def send_start_message(self, command: str) -> None:
        self.channel.exec_command("sh")
        self.channel.sendall(command.encode("utf-8", "surrogateescape"))


class Local(invoke.runners.Local):
    """invoke's, which leaves its pipes open, and its process running when something else went wrong."""

    def stop(self) -> None:
        super().stop()
        if self.using_pty:
            return
        if self.process.poll() is None:
            self.end()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def end(self) -> None:
        """Of a program that is not waited for."""
        self.process.kill()
        self.process.wait()


class LocalScript(_Bounded, Local):
    """The same on this machine, in a process group of its own, as sshd does it."""

    _running: ClassVar[set[LocalScript]] = set()

    def start(self, command: str, shell: str, env: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [shell],
            env=env,
            cwd=Path.home(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._running.add(self)
        pipe = self._stdin()
        with suppress(BrokenPipeError):
            pipe.write(command.encode("utf-8", "surrogateescape"))
            pipe.flush()

    def stop(self) -> None:
        self._running.discard(self)
        super().stop()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _stdin(self) -> IO[bytes]:
        if self.process.stdin is None:
            raise RuntimeError("a child with three pipes has none")
        return self.process.stdin

    @classmethod
    def cut(cls) -> None:
        """There is one localhost, and one setup of it: the script sees the end of its stdin, and ends."""
        for runner in list(cls._running):
            with suppress(OSError):
                runner._stdin().close()
