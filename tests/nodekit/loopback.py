"""A node without root: an sshd on a port of 127.0.0.1, under one's own account, with a home of its own.

sshd takes the login shell and the starting directory from the account, so a test that wants another shell is
skipped; `SetEnv HOME` moves everything that goes by $HOME, which is all that rbee's scripts go by.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from nodekit import boot
from nodekit.claims import end_processes_of
from nodekit.node import LabNode, NodeProcess
from nodekit.proc import read_processes
from nodekit.running import run, wait_until


class LoopbackNode(LabNode):
    """One sshd under the current account. Made by `NodeLab.node` where there is no root."""

    address = "127.0.0.1"

    def __init__(
        self,
        *,
        name: str,
        directory: Path,
        key: Path,
        shell: str | None,
        sshd_options: Mapping[str, str | int],
        special: bool,
    ) -> None:
        account = pwd.getpwuid(os.geteuid())
        if shell is not None and Path(shell).name != Path(account.pw_shell).name:
            self._needs_root(f"the login shell {shell}")
        if special:
            self._needs_root("a machine id, a shared home, a disk or a network of its own")
        self.name, self.directory, self.key = name, directory, key
        self.user, self.uid = account.pw_name, account.pw_uid
        self.home = str(directory / "home")
        self._options = sshd_options
        self._sshd: subprocess.Popen[bytes] | None = None
        Path(self.home).mkdir(mode=0o700)
        (directory / "home" / ".control").touch()
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", directory / "host_key"])
        with socket.socket() as probe:
            probe.bind((self.address, 0))
            self.port = probe.getsockname()[1]
        self.start_sshd()

    def start_sshd(self) -> None:
        base = boot.base_options(self.directory, self.port) | {
            "ListenAddress": self.address,
            "AuthorizedKeysFile": f"{self.home}/.ssh/authorized_keys",
            # Directories above it may be writable by a group; the file itself is ours.
            "StrictModes": "no",
            "SetEnv": f"HOME={self.home}",
            "PidFile": "none",
        }
        config = self.directory / "sshd_config"
        config.write_text(boot.sshd_config(self._options, base))
        self._sshd = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL", "--"),
                *(_sshd_path(), "-D", "-f", os.fspath(config), "-E", os.fspath(self.directory / "sshd.log")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(f"sshd of {self.name} answers", self._answers)

    def _answers(self) -> bool:
        assert self._sshd is not None
        assert self._sshd.poll() is None, f"sshd ended: {self.sshd_log}"
        with suppress(OSError), socket.create_connection((self.address, self.port), 1.0) as connection:
            return connection.recv(4) == b"SSH-"
        return False

    def kill_sshd(self) -> None:
        if self._sshd is None:
            return
        served = {self._sshd.pid}
        for process in sorted(read_processes(Path("/proc")), key=lambda each: each.pid):
            if process.ppid in served and process.name.startswith("sshd"):
                served.add(process.pid)
        for pid in served:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._sshd.wait()
        self._sshd = None

    def remove(self) -> None:
        self.kill_sshd()
        end_processes_of(Path(self.home))

    def outside(self, path: str) -> Path:
        return Path(self.home) / path

    def write(self, path: str, text: str, *, mode: int = 0o600) -> Path:
        place = self.outside(path)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return place

    def local_argv(self, command: str, *, user: str | None = None) -> list[str]:
        if user not in (None, self.user):
            self._needs_root(f"running as {user}")
        account = pwd.getpwuid(self.uid)
        path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        environment = [f"HOME={self.home}", f"USER={self.user}", f"LOGNAME={self.user}"]
        environment += [f"SHELL={account.pw_shell}", f"PATH={path}"]
        return ["env", "-i", *environment, "/bin/sh", "-c", f"cd || exit\n{command}"]

    def processes(self, *, everybody: bool = False) -> list[NodeProcess]:
        """Processes whose HOME is the node's: all there is to tell two such nodes apart by."""
        mine = b"HOME=" + os.fsencode(self.home)
        found = []
        for process in read_processes(Path("/proc")):
            with suppress(OSError):
                environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if everybody or mine in environment:
                    found.append(process)
        return found


def _sshd_path() -> str:
    return next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(path).exists()), "sshd")
