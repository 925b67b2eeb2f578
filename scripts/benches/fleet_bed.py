"""Many nodes made of one sshd: an address of 127.0.1.0/24 each, and the same question by others' tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benches import stopwatch
from benches.stopwatch import Run
from nodekit import Control, LabNode, NodeLab
from nodekit.control import rbee_path
from nodekit.running import run

MOST = 200
CONNECT = 3  # seconds that a dead node costs; every tool is told the same


@dataclass
class FleetBed:
    """The node whose addresses are the fleet, and the control machine, which runs in the node's network."""

    node: LabNode
    control: Control
    tools: Path  # the directory of pyinfra and ansible

    @property
    def hosts(self) -> list[str]:
        return [f"127.0.1.{number}" for number in range(1, MOST + 1)]

    def run(
        self, argv: Sequence[str], counts: Callable[[bytes], bool] | None = None, *, input: str = ""
    ) -> Run:
        return stopwatch.run(
            [*self.node.network_argv(), *argv],
            counts,
            env=self.control.env,
            cwd=self.control.work,
            input=input,
        )

    def inventory(self, count: int) -> None:
        """The first `count` of them are the fleet of the commands that follow."""
        where = {"user": self.node.user, "port": self.node.port}
        self.control.inventory(
            nodes_also={f"node{i:03}": where | {"host": host} for i, host in enumerate(self.hosts[:count])},
            text=f"[timeouts]\nconnect = {CONNECT}\n",
        )

    def trust(self) -> None:
        _, kind, key = self.node.host_key_line.split()
        at = "{}" if self.node.port == 22 else f"[{{}}]:{self.node.port}"
        lines = [f"{at.format(host)} {kind} {key}\n" for host in self.hosts]
        self.control.known_hosts.write_text("".join(lines))

    def cut(self, count: int) -> list[str]:
        """Drop what is sent to the last `count` of the first 50 nodes; their addresses."""
        cut = self.hosts[50 - count : 50]
        for host in cut:
            run([*self.node.network_argv(), "iptables", "-w", "-I", "INPUT", "-d", host, "-j", "DROP"])
        return cut

    def mend(self) -> None:
        run([*self.node.network_argv(), "iptables", "-w", "-F", "INPUT"])

    # The same question, asked by each

    def rbee(self) -> Run:
        """Each line marked: the titles, then a node's as it answers."""
        return self.run(self.rbee_argv(), stopwatch.any_line)

    def rbee_argv(self) -> list[str]:
        return [rbee_path(), "-q", "nodes", "status"]

    def peak_bytes(self) -> float:
        argv = [*self.node.network_argv(), *self.rbee_argv()]
        return stopwatch.peak_bytes(argv, env=self.control.env, cwd=self.control.work)

    def ssh(self, count: int) -> Run:
        words = [*self._ssh_words(), f"{self.node.user}@{{}}", "uname", "-a"]
        return self.run(["xargs", "-P", "64", "-I{}", *words], input="\n".join(self.hosts[:count]))

    def _ssh_words(self) -> list[str]:
        settings = (
            f"IdentityFile={self.node.key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={self.control.known_hosts}",
            f"ConnectTimeout={CONNECT}",
            f"Port={self.node.port}",
        )
        return ["ssh", "-F", "/dev/null", *(word for setting in settings for word in ("-o", setting))]

    def pyinfra(self, count: int) -> Run:
        data = {
            "ssh_known_hosts_file": self.control.known_hosts,
            "ssh_strict_host_key_checking": "yes",
            "ssh_port": self.node.port,
            "ssh_connect_retries": 0,
        }
        inventory = self.control.work / "hosts.py"
        inventory.write_text(f"hosts = {self.hosts[:count]!r}\n")
        return self.run(
            [
                *(str(self.tools / "pyinfra"), "-y", "--user", self.node.user, "--key", str(self.node.key)),
                *(word for name, value in data.items() for word in ("--data", f"{name}={value}")),
                *(str(inventory), "exec", "--", "uname", "-a"),
            ]
        )

    def ansible(self, count: int) -> Run:
        (self.control.work / "ansible.cfg").write_text(
            f"[defaults]\nforks = 50\ntimeout = {CONNECT}\n[ssh_connection]\nssh_args = -F /dev/null\n"
        )
        return self.run(
            [
                *(str(self.tools / "ansible"), "all", "-i", ",".join(self.hosts[:count]) + ","),
                *("-u", self.node.user, "--private-key", str(self.node.key), "-e"),
                f"ansible_port={self.node.port}",
                f"--ssh-common-args=-o UserKnownHostsFile={self.control.known_hosts} -o IdentityAgent=none",
                *("-m", "raw", "-a", "uname -a"),
            ]
        )


@contextmanager
def fleet_bed() -> Iterator[FleetBed]:
    """An sshd that takes as many logins at once as so many machines would."""
    options: dict[str, str | int] = {"MaxStartups": 1000, "LogLevel": "ERROR", "ListenAddress": "0.0.0.0"}
    with NodeLab() as lab:
        node, control = lab.node("fleet", shell="/bin/dash", sshd_options=options), lab.control("desk")
        place = FleetBed(node, control, Path(os.environ["RBEE_BENCH_TOOLS"]))
        place.trust()
        place.inventory(50)
        yield place
