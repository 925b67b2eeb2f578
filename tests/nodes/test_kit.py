"""The kit itself: that its nodes are what they pretend to be, and that nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodekit import Control, LabNode, NodeLab, claims
from nodekit.lab import unmet_need
from nodekit.running import run, wait_until

# Some of these kill a lab and look at what the next one clears away: not with another beginning beside them.
pytestmark = pytest.mark.xdist_group("kit")

MakeNode = Callable[..., LabNode]
needs_spaces = pytest.mark.skipif(unmet_need() is not None, reason=f"namespaces: {unmet_need()}")

SHELLS = ["/bin/sh", "/bin/dash", "/bin/bash", "/bin/zsh", "/usr/bin/fish", "/bin/csh", "busybox"]


@pytest.mark.parametrize("shell", SHELLS)
def test_login_with_every_shell(make_node: MakeNode, shell: str) -> None:
    node = make_node(shell=shell)

    assert node.ssh("echo hello").stdout == "hello\n"
    assert node.ssh("sh", input="set -- 'a b'\necho $# \"$1\" $HOME\n").stdout == f"1 a b {node.home}\n"


@needs_spaces
@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/zsh", "/usr/bin/fish", "/bin/csh"])
def test_rc_text_is_read_at_login(make_node: MakeNode, shell: str) -> None:
    node = make_node(shell=shell, rc="echo banner\n")

    assert node.ssh("echo hello").stdout == "banner\nhello\n"


def test_refused_without_the_key_and_with_the_wrong_host_key(node: LabNode) -> None:
    line = node.public_key
    node.authorize()
    refused = node.ssh("true", check=False)
    node.authorize(line)
    node.ssh("true")
    known = node.directory / "known_hosts"
    other = node.host_key_line.replace("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAIA")[:-2] + "AA"
    argv = node.ssh_argv()
    known.write_text(other[: len(node.host_key_line)] + "\n")
    changed = run([*argv, "true"], check=False)

    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr
    assert changed.returncode == 255
    assert "verification failed" in changed.stderr.lower()


@needs_spaces
def test_nodes_are_separate_machines(make_node: MakeNode) -> None:
    first, second = make_node(), make_node()
    asked = "hostname; cat /proc/sys/kernel/random/boot_id /etc/machine-id; id -un; ls /home"
    pid = first.exec_local("sleep 60 >/dev/null 2>&1 </dev/null & echo $!").stdout.strip()
    first.write("/tmp/mark", "x")

    assert first.ssh(asked).stdout == first.exec_local(asked).stdout
    mine, theirs = (node.ssh(asked).stdout.split() for node in (first, second))
    assert not set(mine) & set(theirs)
    assert ("sleep", "60") in [process.argv for process in first.processes()]
    assert second.processes() == []
    assert second.exec_local(f"kill -0 {pid}", check=False).returncode != 0
    assert second.exec_local("ls /tmp").stdout == ""
    assert second.exec_local(f"ls {first.outside('')}", check=False).returncode != 0


@needs_spaces
def test_a_second_account_cannot_read_the_first_ones_home(node: LabNode) -> None:
    node.add_user("mallory")

    assert node.exec_local("id -un; pwd", user="mallory").stdout == "mallory\n/home/mallory\n"
    assert node.exec_local(f"ls {node.home}", user="mallory", check=False).returncode != 0
    assert node.exec_local("id -u", user="root").stdout == "0\n"


@needs_spaces
def test_two_nodes_can_share_a_home(make_node: MakeNode) -> None:
    first = make_node()
    second = make_node(home_of=first)
    first.write("note", "shared")

    assert second.ssh("cat note").stdout == "shared"
    assert first.ssh("cat /etc/machine-id").stdout != second.ssh("cat /etc/machine-id").stdout


@needs_spaces
def test_a_reboot_ends_everything_but_the_files(node: LabNode) -> None:
    before = node.ssh("cat /proc/sys/kernel/random/boot_id").stdout
    node.exec_local("setsid sleep 60 >/dev/null 2>&1 </dev/null & echo kept > note; echo gone > /tmp/note")
    key = node.host_key_line

    node.reboot()

    assert node.ssh("cat /proc/sys/kernel/random/boot_id; cat note").stdout.split()[1:] == ["kept"]
    assert node.ssh("cat /proc/sys/kernel/random/boot_id").stdout != before
    assert node.processes() == []
    assert not node.outside("/tmp/note").exists()
    assert node.host_key_line == key


@needs_spaces
def test_a_small_disk_fills_and_is_empty_after_a_reboot(make_node: MakeNode) -> None:
    node = make_node(disks={"small": "1m"})
    full = node.exec_local("echo first >/run/small/first; dd if=/dev/zero of=/run/small/other", check=False)
    assert "No space left" in full.stderr
    assert node.outside("/run/small/first").read_text() == "first\n"

    node.reboot()

    assert node.exec_local("ls /run/small; echo new >/run/small/first").stdout == ""


@needs_spaces
def test_orphans_are_collected(node: LabNode) -> None:
    node.exec_local("(setsid sh -c 'sleep 0.05; exit 3' >/dev/null 2>&1 </dev/null &)")

    wait_until("no process is left, zombies included", lambda: not node.processes(), timeout=5)


def greeted(node: LabNode) -> socket.socket:
    """A connection on which sshd has spoken, and would speak again if asked."""
    connection = socket.create_connection((node.address, node.port), 5)
    assert connection.recv(4) == b"SSH-"
    while b"\n" not in connection.recv(100):
        pass
    return connection


@needs_spaces
def test_a_cut_network_is_silent_and_can_be_mended(node: LabNode) -> None:
    with greeted(node) as connection:
        node.cut()
        connection.sendall(b"SSH-2.0-test\r\n")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        with pytest.raises(TimeoutError):
            socket.create_connection((node.address, node.port), 0.3).close()
        node.mend()
        connection.settimeout(5)
        assert connection.recv(1) != b""


@needs_spaces
def test_reset_connections_are_noticed_at_once(node: LabNode) -> None:
    with greeted(node) as connection:
        node.reset_connections()
        connection.settimeout(0.5)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    node.ssh("true")


@needs_spaces
@pytest.mark.parametrize("silent", [False, True])
def test_a_node_that_goes_off_tells_its_peers_or_does_not(node: LabNode, silent: bool) -> None:
    with greeted(node) as connection:
        node.power_off(silent=silent)
        connection.settimeout(0.5)
        if silent:
            with pytest.raises(TimeoutError):
                connection.recv(1)
        else:
            assert connection.recv(1) == b""
    node.power_on()
    node.ssh("true")


@needs_spaces
def test_unplug_and_plug(node: LabNode) -> None:
    node.unplug()
    with pytest.raises(OSError, match=r"timed out|No route"):
        socket.create_connection((node.address, node.port), 0.3).close()
    node.plug()
    wait_until("the node is back", lambda: node.ssh("true", check=False).returncode == 0)


def test_killing_sshd_leaves_what_logins_started(node: LabNode) -> None:
    node.ssh("sleep 60 >/dev/null 2>&1 </dev/null &")
    node.kill_sshd()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((node.address, node.port), 1).close()
    assert [process.argv for process in node.processes()] == [("sleep", "60")]
    node.start_sshd()
    node.ssh("true")


@needs_spaces
def test_a_renewed_host_key_is_another(node: LabNode) -> None:
    before = node.host_key_line
    node.renew_host_key()

    assert node.host_key_line != before
    node.ssh("true")


@needs_spaces
def test_a_node_behind_a_jump_host(make_node: MakeNode) -> None:
    jump = make_node()
    inner = make_node(reachable_from=jump)

    with pytest.raises(TimeoutError):
        socket.create_connection((inner.address, inner.port), 0.3).close()
    proxy = " ".join(jump.ssh_argv("-W", "%h:%p"))
    assert run([*inner.ssh_argv("-o", f"ProxyCommand={proxy}"), "hostname"]).stdout == f"{inner.name}\n"


@needs_spaces
def test_sshd_options_reach_sshd(make_node: MakeNode) -> None:
    node = make_node(sshd_options={"ForceCommand": "echo forced"})

    assert node.ssh("echo free").stdout == "forced\n"
    assert node.listening_tcp() == {"0.0.0.0:22", "[::]:22"}


@needs_spaces
def test_one_control_machine_goes_silent_alone(lab: NodeLab, node: LabNode) -> None:
    first, second = (lab.control(f"silent{number}", own_network=True) for number in (1, 2))
    try:
        reach = [f"exec 3<>/dev/tcp/{node.address}/22 && head -c4 <&3"]

        def reaches(control: Control) -> bool:
            argv = ["timeout", "1", *control.way_in, "bash", "-c", *reach]
            return run(argv, check=False).stdout == "SSH-"

        assert reaches(first)
        assert reaches(second)
        first.cut()
        assert not reaches(first)
        assert reaches(second)
        first.mend()
        assert reaches(first)
    finally:
        lab.remove(first)
        lab.remove(second)


def test_a_control_machine_is_an_empty_home(control: Control, node: LabNode) -> None:
    path = control.inventory(node, every={"tags": ["a b", 'c"d']}, text="[defaults]\nlease = 60\n")
    version = control.rbee("--version", check=True)

    assert control.home.stat().st_mode & 0o777 == 0o700
    assert node.host_key_line in control.known_hosts.read_text()
    assert "SSH_AUTH_SOCK" not in control.env
    assert "rbee" in version.stdout
    assert f'host = "{node.address}"' in path.read_text()
    assert 'tags = ["a b", "c\\"d"]' in path.read_text()


needs_a_lab = pytest.mark.skipif(
    unmet_need() is not None and os.geteuid() == 0, reason=f"namespaces: {unmet_need()}"
)

LAB_AND_WORKER = """
import subprocess, sys, time
from nodekit import NodeLab
lab = NodeLab()
node = lab.node("a")
control = lab.control("desk")
worker = subprocess.Popen(["sleep", "600"], env=control.env, start_new_session=True)
print(lab.directory, worker.pid, getattr(lab, "bridge", ""), flush=True)
if sys.argv[1] == "close":
    lab.close()
    worker.wait()
else:
    time.sleep(600)
"""


def lab_process(end: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAB_AND_WORKER, end],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def remains(directory: Path, worker: int) -> list[str]:
    """What is left of a lab: its directory, the worker of its control machine, its bridge, its nodes."""
    found = [str(directory)] if directory.exists() else []
    if claims.start_time(worker) is not None:
        found.append(f"process {worker}")
    if Path("/sys/class/net", claims.bridge_name(int(directory.name))).exists():
        found.append("bridge")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if f"{directory}/" in words:
                found.append(words.replace("\0", " "))
    return found


@needs_a_lab
def test_a_closed_lab_leaves_nothing() -> None:
    with lab_process("close") as process:
        assert process.stdout is not None
        directory, worker, *_ = process.stdout.readline().split()
        assert process.wait(30) == 0

    assert remains(Path(directory), int(worker)) == []


@needs_a_lab
def test_a_killed_lab_takes_its_nodes_along_and_the_next_one_clears_the_rest() -> None:
    with lab_process("stay") as process:
        assert process.stdout is not None
        directory, worker, *_ = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def nodes() -> list[str]:
        return [each for each in remains(Path(directory), int(worker)) if "sshd" in each]

    wait_until("the nodes ended with their lab", lambda: not nodes())
    assert "bridge" in remains(Path(directory), int(worker)) or unmet_need()
    with NodeLab():
        pass
    wait_until("nothing is left", lambda: not remains(Path(directory), int(worker)), timeout=5)


def test_a_sweep_passes_by_labs_that_are_just_released(tmp_path: Path) -> None:
    gone, dead, released = 997, 998, 999  # the numbers of no lab, since a sweep takes bridges away
    (tmp_path / f"{gone}.lock").symlink_to("gone")  # listed, and away when it is opened
    os.close(os.open(tmp_path / f"{dead}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC))
    (tmp_path / f"{dead}").mkdir()
    # Away between being opened and being locked: what is open then has no name any more.
    lock = os.open(tmp_path / f"{released}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    (tmp_path / f"{released}.lock").unlink()
    (tmp_path / f"{released}.lock").symlink_to(f"/proc/{os.getpid()}/fd/{lock}")
    (tmp_path / f"{released}").mkdir()

    claims.sweep(tmp_path)

    os.close(lock)
    assert (tmp_path / f"{released}").exists()
    assert not list(tmp_path.glob(f"{dead}*"))


def test_what_runs_for_a_home_is_ended_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "desk"

    def waiting(*words: str, **env: str) -> subprocess.Popen[bytes]:
        argv = ["/bin/sh", "-c", "read line", *words]
        return subprocess.Popen(argv, env=env, stdin=subprocess.PIPE)

    theirs = [waiting(HOME=str(home)), waiting(f"{home}/supervise.sh")]
    others = [waiting(HOME=f"{home}2"), waiting(f"{home}2/supervise.sh")]
    try:
        assert set(claims.end_processes_of(home)) == {process.pid for process in theirs}
        assert [process.wait(10) for process in theirs] == [-signal.SIGKILL] * 2
        assert [process.poll() for process in others] == [None, None]
        assert claims.runs_for(home) == []
    finally:
        for process in (*theirs, *others):
            process.kill()
            process.communicate()
