"""What goes wrong with a node, and how a test has it.

no link · packets dropped · reset       LabNode.unplug · cut, lose · reset_connections; Control.cut
slow                                    relay.Relay
sshd, machine                           LabNode.kill_sshd · reboot, power_off · renew_host_key
worker: TERM, KILL, SEGV, STOP, OOM     nodes.serving.kill · out_of_memory
forwarding, MaxSessions, MaxStartups    lab.node(sshd_options=…), or later reconfigure_sshd
nologin, csh · a forced command         lab.node(shell=…) · LabNode.authorize
disk                                    lab.node(disks=…) or small_disk · fill
engine: gone · for another machine      Path.unlink · FOREIGN
the control machine's clock             Control.clock_off
"""

from __future__ import annotations

import pytest

from nodekit.node import LabNode

# The head of a program for another kind of machine: an ELF file for s390x, of which no interpreter is known.
FOREIGN = "\x7fELF\x02\x02\x01" + "\0" * 9 + "\0\x02\0\x16\0\0\0\x01" + "\0" * 40

# A memory control group with this process in it, and another program in there that takes more than there is.
# The kernel measures by oom_score_adj whom to end first. $1: its pid.
_OUT_OF_MEMORY = """
group() {
    GROUP=$1/rbee-$$
    mkdir "$GROUP" 2>/dev/null || return
    LIMIT=memory.limit_in_bytes SWAP=memory.memsw.limit_in_bytes EVENTS=memory.oom_control
    [ ! -e "$GROUP/$LIMIT" ] || return 0
    LIMIT=memory.max SWAP=memory.swap.max EVENTS=memory.events
    [ -e "$GROUP/$LIMIT" ] || echo +memory >"$1/cgroup.subtree_control"
    [ ! -e "$GROUP/$LIMIT" ] || return 0
    rmdir "$GROUP"
    return 1
}
group /sys/fs/cgroup/memory || group /sys/fs/cgroup 2>/dev/null || exit 77
echo 16777216 >"$GROUP/$LIMIT"
# Of v1 with memory, of v2 without it.
[ ! -e "$GROUP/$SWAP" ] || echo 16777216 >"$GROUP/$SWAP"
echo "$1" >"$GROUP/cgroup.procs" && echo 1000 >"/proc/$1/oom_score_adj" || exit 1
sh -c 'echo $$ >"$0/cgroup.procs"; exec dd if=/dev/zero of=/dev/null bs=64M count=1' "$GROUP" 2>/dev/null
grep '^oom_kill ' "$GROUP/$EVENTS"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rmdir "$GROUP" 2>/dev/null && exit
    sleep 0.1
done
"""


def out_of_memory(node: LabNode, pid: int) -> None:
    """The kernel's OOM killer ends this process: another one of its control group wanted what there was."""
    node.must_be_a_machine("a control group")
    done = node.exec_local(f"set -- {pid}\n{_OUT_OF_MEMORY}", user="root", check=False)
    if done.returncode == 77:
        pytest.skip("no memory control group can be made here (/sys/fs/cgroup)")
    word, _, times = done.stdout.strip().partition(" ")
    assert (word, int(times or 0) > 0) == ("oom_kill", True), done.stdout + done.stderr


def reconfigure_sshd(node: LabNode, *lines: str) -> None:
    """sshd, started anew, has these lines too: forwarding forbidden, a second port or key."""
    node.kill_sshd()
    with (node.directory / "sshd_config").open("a") as config:
        config.writelines(f"\n{line}\n" for line in lines)
    node.start_sshd()


def small_disk(node: LabNode, path: str, size: str) -> str:
    """A disk of this size ("66m") at `path` below the home, or the one there made so large; its path."""
    node.must_be_a_machine("a disk of its own")
    place = f"{node.home}/{path}"
    there = node.exec_local(f"mkdir {place}", check=False).returncode
    how = "-o remount," if there else "-t tmpfs -o mode=777,"
    node.exec_local(f"mount {how}size={size} tmpfs {place}", user="root")
    return place


def fill(node: LabNode, place: str) -> None:
    """Another program takes all that is free of this disk, with its file `other`."""
    node.exec_local(f"dd if=/dev/zero of={place}/other bs=1M", check=False)
