"""What a node boots with, as text: its script, its sshd_config, its user table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class User:
    """An account of one node."""

    name: str
    uid: int
    shell: str

    @property
    def home(self) -> str:
        return f"/home/{self.name}"


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of a namespace node. Paths of the host unless they are said to be the node's."""

    name: str
    directory: Path  # holds machine-id, boot-id, passwd, group, shadow, home/, tmp/, var-log/, sshd_config
    address: str
    prefix: int
    mac: str
    visible: Sequence[Path] = ()  # below /tmp or /home, and still to be seen in the node at the same path
    one_core: bool = False  # engines shall see one core only
    disks: Mapping[str, str] = field(default_factory=dict)  # small ones: name below /run → size of a tmpfs
    uid: int = 0  # whose they are


def script(boot: Boot) -> str:
    """The sh script process 1 runs. It ends with sshd listening, or says which line failed."""
    here = {name: shlex.quote(str(boot.directory / name)) for name in _PARTS}
    lines = [
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "umask 022",
        "mount -t proc proc /proc",
        "ip link set lo up",
        f"ip link set eth0 address {boot.mac}",
        f"ip address add {boot.address}/{boot.prefix} dev eth0",
        "ip link set eth0 up",
        f"hostname {shlex.quote(boot.name)}",
        f"mount --bind {here['boot-id']} /proc/sys/kernel/random/boot_id",
        # A host without a machine id (a container) has no file to cover: the node gets a copy of its /etc.
        "if [ ! -e /etc/machine-id ]; then",
        f"    rm -rf {here['etc']}; cp -a /etc {here['etc']}; : >{here['etc']}/machine-id",
        f"    mount --bind {here['etc']} /etc",
        "fi",
        *(f"mount --bind {here[name]} /etc/{name}" for name in ("passwd", "group", "shadow", "machine-id")),
        f"mount --bind {here['var-log']} /var/log",
        *(_ONE_CORE if boot.one_core else ()),
        *_kept(boot.visible),
        f"mount --bind {here['home']} /home",
        f"mount --bind {here['tmp']} /tmp",
        *_shown(boot.visible),
        "mount -t tmpfs -o mode=755,size=16m tmpfs /run",
        "mkdir /run/sshd /run/shells /run/lock /run/user",
        'if busybox=$(command -v busybox); then ln -s "$busybox" /run/shells/ash; fi',
        *_small(boot),
        f"/usr/sbin/sshd -f {here['sshd_config']} -E {here['sshd.log']}",
    ]
    return "\n".join(lines) + "\n"


# llama.cpp counts cores by these files, from the first on until one is not there (common.cpp,
# cpu_get_num_physical_cores), and starts a thread for each.
_ONE_CORE = (
    "other=/sys/devices/system/cpu/cpu1/topology",
    'if [ -d "$other" ]; then mount -t tmpfs -o size=4k tmpfs "$other"; fi',
)
_PARTS = (
    "passwd",
    "group",
    "shadow",
    "machine-id",
    "boot-id",
    "etc",
    "home",
    "tmp",
    "var-log",
    "sshd_config",
    "sshd.log",
)


def _kept(visible: Sequence[Path]) -> list[str]:
    """Bind what is to stay visible aside, before /tmp and /home are covered."""
    lines = []
    for index, path in enumerate(visible):
        lines += [f"mkdir -p /mnt/{index}", f"mount --bind {shlex.quote(str(path))} /mnt/{index}"]
    return ["mount -t tmpfs -o mode=755,size=1m tmpfs /mnt", *lines] if lines else []


def _small(boot: Boot) -> list[str]:
    lines = []
    for name, size in boot.disks.items():
        place = shlex.quote(f"/run/{name}")
        options = f"mode=755,uid={boot.uid},gid={boot.uid},size={size}"
        lines += [f"mkdir {place}", f"mount -t tmpfs -o {options} tmpfs {place}"]
    return lines


def _shown(visible: Sequence[Path]) -> list[str]:
    lines = []
    for index, path in enumerate(visible):
        place = shlex.quote(str(path))
        lines += [f"mkdir -p {place}", f"mount --move /mnt/{index} {place}"]
    return lines


def passwd(users: Sequence[User], host: str) -> str:
    """/etc/passwd: the host's system accounts, then the node's users."""
    return (
        host.rstrip("\n")
        + "\n"
        + "".join(f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:{user.shell}\n" for user in users)
    )


def group(users: Sequence[User], host: str) -> str:
    return host.rstrip("\n") + "\n" + "".join(f"{user.name}:x:{user.uid}:\n" for user in users)


def shadow(users: Sequence[User]) -> str:
    """`*` is an account without a password that keys can still open; `!` would be a locked one."""
    return "root:*:19000:0:99999:7:::\n" + "".join(f"{user.name}:*:19000:0:99999:7:::\n" for user in users)


def sshd_config(options: Mapping[str, str | int], base: Mapping[str, str | int]) -> str:
    """sshd_config text. In sshd the first value of a keyword wins, so the test's options stand first."""
    own = {key.lower() for key in options}
    lines = [f"{key} {value}" for key, value in options.items()]
    lines += [f"{key} {value}" for key, value in base.items() if key.lower() not in own]
    return "\n".join(lines) + "\n"


def base_options(directory: Path, port: int) -> dict[str, str | int]:
    """What every node's sshd says unless the test says otherwise."""
    return {
        "Port": port,
        "HostKey": str(directory / "host_key"),
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PubkeyAuthentication": "yes",
        "PermitRootLogin": "no",
        "PrintMotd": "no",
        "PrintLastLog": "no",
        "UseDNS": "no",
        "X11Forwarding": "no",
        "Subsystem": "sftp internal-sftp",
        "LogLevel": "VERBOSE",
    }
