"""The lab: a bridge, and what is plugged into it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

import pytest

from nodekit import boot, claims
from nodekit.control import Control
from nodekit.loopback import LoopbackNode
from nodekit.namespace import NETWORK_ONLY, Namespaces
from nodekit.node import LabNode
from nodekit.running import run
from nodekit.spacenode import SpaceNode

FIRST_UID = 700_000
UIDS_PER_NODE = 16
UIDS_PER_LAB = 256 * UIDS_PER_NODE
RC_FILES = {"bash": ".bashrc", "zsh": ".zshenv", "fish": ".config/fish/config.fish", "csh": ".cshrc"}


@cache
def unmet_need() -> str | None:
    """What this machine lacks for nodes of namespaces, in words; None when nothing."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("unshare", "nsenter", "ip", "iptables", "ss"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    tried = run(["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "true"], check=False)
    return None if tried.returncode == 0 else f"the kernel refuses namespaces: {tried.stderr.strip()}"


class NodeLab:
    """Nodes and control machines on one private network; a context manager that takes all of it down.

    Args:
        visible: directories below /tmp or /home that nodes shall still see (theirs are their own).
        one_core: engines on the nodes start one thread each. The threads of two engines that share two cores
            spin while they wait for each other, and every answer takes several times as long.
    """

    def __init__(self, visible: Sequence[Path] = (), *, one_core: bool = False) -> None:
        for program in ("ssh", "ssh-keygen"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: apt-get install openssh-server openssh-client")
        if not any(Path(place, "sshd").exists() for place in ("/usr/sbin", "/usr/local/sbin")):
            pytest.skip("sshd is not installed: apt-get install openssh-server")
        self.spaces = unmet_need() is None
        if not self.spaces and os.geteuid() == 0:
            pytest.skip(f"test nodes of root are made of namespaces, but {unmet_need()}")
        self._visible = [path for path in visible if path.parts[1] in ("tmp", "home")]
        self._one_core = one_core
        self._claim = claims.claim()
        self._parts: list[LabNode | Control] = []
        self._plugged = 1  # the bridge itself is .1
        self.network = f"10.231.{self._claim.number}"
        self._bridge = claims.bridge_name(self._claim.number)
        self.names = itertools.count(1)  # for parts whose name does not matter
        self.directory = self._claim.directory
        self.key = self.directory / "client_key"
        try:
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self.key])
            if self.spaces:
                run(
                    ["ip", "-batch", "-"],
                    input=f"link add {self._bridge} type bridge\n"
                    f"address add {self.network}.1/24 dev {self._bridge}\n"
                    f"link set {self._bridge} up\n",
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> NodeLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def node(
        self,
        name: str,
        *,
        shell: str | None = None,
        rc: str | None = None,
        files: Mapping[str, str] | None = None,
        sshd_options: Mapping[str, str | int] | None = None,
        user: str | None = None,
        home_of: LabNode | None = None,
        machine_id: str | None = None,
        reachable_from: LabNode | None = None,
        disks: Mapping[str, str] | None = None,
    ) -> LabNode:
        """Make a node and wait for its sshd.

        Args:
            name: unique in the lab, short, fit for a host name.
            shell: path of the login shell, /bin/sh by default; "busybox" for busybox's.
            rc: text for the file that the shell reads at a non-interactive login (a banner, an `exit`).
            files: further files of the home, by relative path.
            sshd_options: sshd_config keywords, over the kit's own.
            user: the account's name, `user-NAME` by default.
            home_of: share this node's home directory and account, as over NFS.
            machine_id: 32 hex digits, random by default.
            reachable_from: drop logins from anywhere but this node: a machine behind a jump host.
            disks: small ones of the account below /run, by name and size ("72m"); a reboot empties them.
        """
        directory = self.directory / name
        directory.mkdir(mode=0o755)
        node: LabNode
        if self.spaces:
            self._plugged += 1
            sharing = home_of if isinstance(home_of, SpaceNode) else None
            shell = "/run/shells/ash" if shell == "busybox" else shell or "/bin/sh"
            if not shell.startswith("/run/") and not Path(shell).exists():
                pytest.skip(f"{shell} is not installed")
            uid = FIRST_UID + self._claim.number * UIDS_PER_LAB + self._plugged * UIDS_PER_NODE
            account = (
                boot.User(sharing.user, sharing.uid, shell)
                if sharing
                else boot.User(user or f"user-{name}", uid, shell)
            )
            node = SpaceNode(
                name=name,
                directory=directory,
                bridge=self._bridge,
                network=self.network,
                host_number=self._plugged,
                user=account,
                key=self.key,
                machine_id=machine_id,
                home_of=sharing,
                sshd_options=sshd_options or {},
                reachable_from=reachable_from,
                visible=self._visible,
                one_core=self._one_core,
                disks=disks or {},
            )
        else:
            node = LoopbackNode(
                name=name,
                directory=directory,
                key=self.key,
                shell=shell,
                sshd_options=sshd_options or {},
                special=bool(machine_id or reachable_from or user or home_of or disks),
            )
        self._parts.append(node)
        if home_of is None:
            node.authorize(node.public_key)
        if rc is not None:
            node.write(RC_FILES[Path(shell or "").name], rc)
        for path, text in (files or {}).items():
            node.write(path, text)
        return node

    def control(self, name: str, *, own_network: bool = False, key: bool = True) -> Control:
        """Make a control machine: an empty home.

        Args:
            own_network: its own address and cable, so that `cut` silences it alone. Needs root.
            key: put the key that opens the nodes into its ~/.ssh.
        """
        home = self.directory / name
        home.mkdir(mode=0o700)
        spaces, address = None, None
        if own_network:
            if not self.spaces:
                pytest.skip(f"a network of its own needs root and namespaces: {unmet_need()}")
            self._plugged += 1
            address = f"{self.network}.{self._plugged}"
            beside = self.directory / f"{name}-net"
            beside.mkdir()
            lines = ["ip link set lo up", f"ip address add {address}/24 dev eth0", "ip link set eth0 up"]
            spaces = Namespaces(
                NETWORK_ONLY, beside, self._bridge, f"{self._bridge}.{self._plugged}", "\n".join(lines)
            )
        control = Control(home, self.key if key else None, spaces, address)
        self._parts.append(control)
        return control

    def remove(self, part: LabNode | Control) -> None:
        """Take one node or control machine down before the lab's own end."""
        self._parts.remove(part)
        part.remove()

    def close(self) -> None:
        """Take everything down, whatever fails on the way."""
        faults: list[Exception] = []
        while self._parts:
            try:
                self._parts.pop().remove()
            except Exception as error:
                faults.append(error)
        if self.spaces:
            run(["ip", "link", "delete", self._bridge], check=False)
        self._claim.release()
        if faults:
            raise ExceptionGroup("the lab did not come down cleanly", faults)
