"""A node made of namespaces: a machine of its own in all that rbee can see of one."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nodekit import boot
from nodekit.namespace import NODE, Namespaces
from nodekit.node import LabNode, NodeProcess
from nodekit.proc import of_sshd, read_processes, system_accounts
from nodekit.running import run, wait_until


class SpaceNode(LabNode):
    """One machine: namespaces, accounts, files and an sshd on port 22. Made by `NodeLab.node`."""

    port = 22

    def __init__(
        self,
        *,
        name: str,
        directory: Path,
        bridge: str,
        network: str,
        host_number: int,
        user: boot.User,
        key: Path,
        machine_id: str | None,
        home_of: SpaceNode | None,
        sshd_options: Mapping[str, str | int],
        reachable_from: LabNode | None,
        visible: Sequence[Path],
        one_core: bool,
        disks: Mapping[str, str],
    ) -> None:
        self.name, self.directory, self.key = name, directory, key
        self.user, self.uid, self.home = user.name, user.uid, user.home
        self.address = f"{network}.{host_number}"
        self.machine_id = machine_id or uuid.uuid4().hex
        self._bridge, self._host_number, self._boots = bridge, host_number, 0
        self._users = [user]
        self._options, self._visible = sshd_options, visible
        self._one_core, self._disks = one_core, disks
        self._only_from = reachable_from.address if reachable_from else None
        self._homes: Path = home_of._homes if home_of else directory / "home"
        self._spaces: Namespaces | None = None
        self._lay_out()
        self.power_on()

    def _lay_out(self) -> None:
        for name, mode in (("tmp", 0o1777), ("var-log", 0o755)):
            (self.directory / name).mkdir()
            (self.directory / name).chmod(mode)
        (self.directory / "machine-id").write_text(self.machine_id + "\n")
        link = self.directory / "home"
        if self._homes == link:
            link.mkdir()
            self._make_home(self._users[0])
        else:
            link.symlink_to(self._homes)
        self._write_users()
        self._new_host_key()

    def _make_home(self, user: boot.User) -> None:
        home = self._homes / user.name
        home.mkdir(mode=0o700)
        os.chown(home, user.uid, user.uid)

    def _write_users(self) -> None:
        """The tables are bind-mounted in the node, so they are rewritten in place."""
        host_users, host_groups = system_accounts()
        tables = {
            "passwd": boot.passwd(self._users, host_users),
            "group": boot.group(self._users, host_groups),
            "shadow": boot.shadow(self._users),
        }
        for name, text in tables.items():
            (self.directory / name).write_text(text)
        (self.directory / "shadow").chmod(0o640)

    def _new_host_key(self) -> None:
        path = self.directory / "host_key"
        for old in (path, path.with_suffix(".pub")):
            old.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path])

    @property
    def _space(self) -> Namespaces:
        assert self._spaces is not None, f"node {self.name} is off"
        return self._spaces

    # Life and death

    def power_on(self) -> None:
        self._boots += 1
        (self.directory / "boot-id").write_text(f"{uuid.uuid4()}\n")
        base = boot.base_options(self.directory, self.port)
        (self.directory / "sshd_config").write_text(boot.sshd_config(self._options, base))
        plan = boot.Boot(
            name=self.name,
            directory=self.directory,
            address=self.address,
            prefix=24,
            mac=f"02:00:0a:00:00:{self._host_number:02x}",
            visible=self._visible,
            one_core=self._one_core,
            disks=self._disks,
            uid=self.uid,
        )
        self._spaces = Namespaces(
            NODE, self.directory, self._bridge, f"{self._bridge}.{self._host_number}", boot.script(plan)
        )
        try:
            if self._only_from:
                self._iptables("-A INPUT -p tcp --dport 22 ! -s", self._only_from, "-j DROP")
            self._wait_for_sshd()
        except BaseException:
            self.power_off()
            raise

    def power_off(self, *, silent: bool = False) -> None:
        if silent:
            self._space.remove_cable()
        self._space.end()
        self._spaces = None

    def reboot(self, *, silent: bool = False) -> None:
        self.power_off(silent=silent)
        shutil.rmtree(self.directory / "tmp")
        (self.directory / "tmp").mkdir()
        (self.directory / "tmp").chmod(0o1777)
        self.power_on()

    def remove(self) -> None:
        if self._spaces is not None:
            self.power_off()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_sshd(self) -> None:
        config, log = self.directory / "sshd_config", self.directory / "sshd.log"
        self.exec_local(f"/usr/sbin/sshd -f {config} -E {log}", user="root")
        self._wait_for_sshd()

    def kill_sshd(self) -> None:
        pids = [str(process.pid) for process in self.processes(everybody=True) if of_sshd(process)]
        if pids:
            # A login's processes end by themselves while this runs.
            self.exec_local(f"kill -KILL {' '.join(pids)}", user="root", check=False)
        wait_until("sshd is gone", lambda: not any(map(of_sshd, self.processes(everybody=True))))

    def renew_host_key(self) -> None:
        self.kill_sshd()
        self._new_host_key()
        self.start_sshd()

    def _wait_for_sshd(self) -> None:
        def answers() -> bool:
            if self._only_from:
                return any(each.endswith(":22") for each in self.listening_tcp())
            with suppress(OSError), socket.create_connection((self.address, self.port), 1.0) as connection:
                return connection.recv(4) == b"SSH-"
            return False

        wait_until(f"sshd of {self.name} answers: {self.sshd_log}", answers)

    # Inside

    def must_be_a_machine(self, what: str) -> None:
        """It is one."""

    def outside(self, path: str) -> Path:
        inside = (Path(self.home) / path).relative_to("/")
        if inside.parts[0] in ("home", "tmp"):  # these are there while the node is off, too
            return self.directory / inside
        return self._space.root / inside

    def write(self, path: str, text: str, *, mode: int = 0o600) -> Path:
        place = self.outside(path)
        for parent in reversed(place.parents):
            if not parent.exists():
                parent.mkdir(mode=0o700)
                os.chown(parent, self.uid, self.uid)
        place.write_text(text)
        place.chmod(mode)
        os.chown(place, self.uid, self.uid)
        return place

    def add_user(self, name: str, *, shell: str = "/bin/sh") -> str:
        user = boot.User(name, self._users[-1].uid + 1, shell)
        self._users.append(user)
        self._write_users()
        self._make_home(user)
        return name

    def local_argv(self, command: str, *, user: str | None = None) -> list[str]:
        who = user or self.user
        root = boot.User("root", 0, "/bin/sh")
        account = next(each for each in (*self._users, root) if each.name == who)
        home = "/root" if who == "root" else account.home
        path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        environment = [
            f"HOME={home}",
            f"USER={who}",
            f"LOGNAME={who}",
            f"SHELL={account.shell}",
            f"PATH={path}",
        ]
        return [
            *self._space.enter(f"--setuid={account.uid}", f"--setgid={account.uid}"),
            *("env", "-i", *environment, "/bin/sh", "-c", f"cd || exit\n{command}"),
        ]

    def network_argv(self) -> list[str]:
        return ["nsenter", f"--target={self._space.pid}", "--net", "--"]

    def processes(self, *, everybody: bool = False) -> list[NodeProcess]:
        every = read_processes(self._space.root / "proc")
        if everybody:
            return every
        return [process for process in every if process.uid == self.uid and not of_sshd(process)]

    # The cable

    def _iptables(self, *words: str) -> None:
        rule = " ".join(words)
        self.exec_local(f"iptables -w {rule}", user="root")

    def cut(self) -> None:
        self._iptables("-I INPUT 1 -i eth0 -j DROP")
        self._iptables("-I OUTPUT 1 -o eth0 -j DROP")

    def mend(self) -> None:
        self._iptables("-D INPUT -i eth0 -j DROP")
        self._iptables("-D OUTPUT -o eth0 -j DROP")

    def lose(self, share: float) -> None:
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            chance = f"-m statistic --mode random --probability {share}"
            self._iptables(f"-A {chain} {way} eth0 {chance} -j DROP")

    def lost(self) -> int:
        rules = self.exec_local("iptables -w -nvxL", user="root").stdout.splitlines()
        return sum(int(rule.split()[0]) for rule in rules if "DROP" in rule.split()[:3])

    def unplug(self) -> None:
        self._space.unplug()

    def plug(self) -> None:
        self._space.plug()

    def reset_connections(self) -> None:
        self.exec_local("ss -K state established src " + shlex.quote(self.address), user="root")
