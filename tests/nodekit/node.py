"""What a test can ask of a node, whichever way it is made."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from nodekit.running import run


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A process as the node counts it."""

    pid: int
    ppid: int
    uid: int
    state: str  # R, S, Z, … as in /proc/PID/stat
    name: str  # the kernel's, 15 bytes
    argv: tuple[str, ...]  # empty once it is ending


class LabNode(ABC):
    """One machine with a real sshd.

    Attributes:
        name: its name in the lab, and in the inventories of `Control.inventory`.
        address, port: where its sshd listens.
        user: the account to log in as.
        home: that account's home, as the node names it.
        key: the private key file that opens it.
        directory: the host's files of this node: sshd.log, sshd_config, host_key.
    """

    name: str
    address: str
    port: int
    user: str
    uid: int
    home: str
    key: Path
    directory: Path

    @property
    def host_key_line(self) -> str:
        """Its line for known_hosts."""
        host = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        kind, key = (self.directory / "host_key.pub").read_text().split()[:2]
        return f"{host} {kind} {key}"

    @property
    def sshd_log(self) -> str:
        return (self.directory / "sshd.log").read_text(errors="replace")

    def ssh_argv(self, *options: str) -> list[str]:
        """OpenSSH's client up to and including the destination; it reads no configuration but this."""
        known = self.directory / "known_hosts"
        known.write_text(self.host_key_line + "\n")
        settings = (
            f"IdentityFile={self.key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known}",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "LogLevel=ERROR",
        )
        words = ["ssh", "-F", "/dev/null"]
        for setting in settings:
            words += ["-o", setting]
        return [*words, *options, "-p", str(self.port), f"{self.user}@{self.address}"]

    def ssh(
        self, command: str, *, input: str | None = None, timeout: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Log in with OpenSSH's client and have the login shell run `command`."""
        return run([*self.ssh_argv(), command], input=input, timeout=timeout, check=check)

    def authorize(self, *lines: str) -> None:
        """Replace authorized_keys by these lines (a public key, options before it)."""
        self.write(".ssh/authorized_keys", "".join(f"{line}\n" for line in lines))

    @property
    def public_key(self) -> str:
        """The line that opens this node for `key`."""
        return self.key.with_suffix(".pub").read_text().strip()

    @abstractmethod
    def outside(self, path: str) -> Path:
        """Where the host finds a file of the node; a relative path is one of the user's home."""

    @abstractmethod
    def write(self, path: str, text: str, *, mode: int = 0o600) -> Path:
        """Write a file of the node's user, directories included; returns the host's name of it."""

    @abstractmethod
    def local_argv(self, command: str, *, user: str | None = None) -> list[str]:
        """The words that run `command` with /bin/sh inside the node, without ssh.

        It runs in the home of `user` (the node's own user, or "root", or one of `add_user`) with a login's
        bare environment.
        """

    def network_argv(self) -> list[str]:
        """The words before a command of the host that shall run in the node's network, whose 127.0.0.1 is
        the node's own; none where the node has no network but the host's."""
        return []

    def exec_local(
        self,
        command: str,
        *,
        user: str | None = None,
        input: str | None = None,
        timeout: float = 30.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` inside the node: a few milliseconds, and it works while the cable is cut."""
        return run(self.local_argv(command, user=user), input=input, timeout=timeout, check=check)

    @abstractmethod
    def processes(self, *, everybody: bool = False) -> list[NodeProcess]:
        """What the node's user runs, sshd's own processes left out; `everybody` leaves nothing out."""

    def listening_tcp(self) -> set[str]:
        """The listening TCP sockets, as `address:port`."""
        lines = self.exec_local("ss -ltnH").stdout.splitlines()
        return {line.split()[3] for line in lines}

    @abstractmethod
    def start_sshd(self) -> None: ...

    @abstractmethod
    def kill_sshd(self) -> None:
        """Kill sshd and every login it serves. What the logins started lives on."""

    @abstractmethod
    def remove(self) -> None:
        """End the node and everything in it."""

    # What only a node with namespaces of its own can do.

    def must_be_a_machine(self, what: str) -> None:
        """Skip the test where the node shares /tmp, processes and users with the host; says `what` for."""
        self._needs_root(what)

    def add_user(self, name: str, *, shell: str = "/bin/sh") -> str:
        """A second account on the node, for `user=` of exec_local; returns its name."""
        self._needs_root("a second account")

    def cut(self) -> None:
        """The network goes silent: packets are dropped both ways, nothing is closed."""
        self._needs_root("a cut network")

    def mend(self) -> None:
        """Undo `cut`."""
        self._needs_root("a cut network")

    def lose(self, share: float) -> None:
        """From now on this share of the packets is dropped at random, each way."""
        self._needs_root("a network that loses packets")

    def lost(self) -> int:
        """How many packets `lose` and `cut` have dropped."""
        self._needs_root("a network that loses packets")

    def unplug(self) -> None:
        """The cable is out: after a while the host finds no route."""
        self._needs_root("an unplugged cable")

    def plug(self) -> None:
        """Undo `unplug`."""
        self._needs_root("an unplugged cable")

    def reset_connections(self) -> None:
        """Every established TCP connection gets an RST, on both ends."""
        self._needs_root("a reset connection")

    def reboot(self, *, silent: bool = False) -> None:
        """End every process, empty /tmp, and come up with a new boot id and sshd.

        Args:
            silent: as after a power cut: the network dies first, so no peer is told.
        """
        self._needs_root("a reboot")

    def power_off(self, *, silent: bool = False) -> None:
        """End every process and stay off until `power_on`."""
        self._needs_root("a reboot")

    def power_on(self) -> None:
        self._needs_root("a reboot")

    def renew_host_key(self) -> None:
        """A new host key, as after a reinstallation; sshd is restarted with it."""
        self._needs_root("a second host key")

    def _needs_root(self, what: str) -> NoReturn:
        pytest.skip(f"{what} needs root (network namespaces): run scripts/test as root")
