"""What the host's files say: processes and system accounts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nodekit.node import NodeProcess

SYSTEM_UIDS = 1000  # accounts of the host below this number exist on the nodes too
NOBODY = 65534


def of_sshd(process: NodeProcess) -> bool:
    """Its listener, or what serves a login; not what the login runs."""
    return process.name.startswith("sshd")


def system_accounts() -> tuple[str, str]:
    """passwd and group lines of the host's system accounts: sshd's own, nobody, root."""

    def kept(path: str) -> str:
        lines = Path(path).read_text().splitlines()
        ids = {line: int(line.split(":")[2]) for line in lines}
        return "\n".join(line for line in lines if ids[line] < SYSTEM_UIDS or ids[line] == NOBODY)

    return kept("/etc/passwd"), kept("/etc/group")


def read_processes(proc: Path) -> list[NodeProcess]:
    """Every process of a /proc, this host's or the one a node sees."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            name, _, rest = (entry / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            state, ppid = rest.split()[:2]
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            uid = int((entry / "status").read_text(errors="replace").partition("\nUid:")[2].split()[0])
            argv = tuple(words.rstrip("\0").split("\0")) if words else ()
            found.append(NodeProcess(int(entry.name), int(ppid), uid, state, name, argv))
    return found
