"""The real crontab program, the real cron daemon, and nodes that only an SSH agent opens.

All of it in a mount namespace with an empty spool: nobody's crontab on this machine is touched.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes.keys import new_key
from nodes.serving import PROMPT, engines_on, equip, model, workers

from nodekit import Control, LabNode
from nodekit.control import rbee_path
from nodekit.engines import Engines
from nodekit.lab import unmet_need
from nodekit.running import run, wait_until
from rbee_ssh.cli.cron import crontab
from rbee_ssh.cli.cron.crontab_program import Crontab, users_crontab
from rbee_ssh.errors import CronFailed

MakeNode = Callable[..., LabNode]

SPOOL = Path("/var/spool/cron/crontabs")
MINE = b"MAILTO=\"\"\n# caf\xe9\n\n  0 4 * * *  backup --to '100\\%'\t# nightly\n"

pytestmark = [
    pytest.mark.skipif(unmet_need() is not None, reason=f"namespaces: {unmet_need()}"),
    pytest.mark.skipif(not (shutil.which("crontab") and SPOOL.is_dir()), reason="apt-get install cron"),
]


class Machine:
    """A mount namespace with an empty spool, /run and cron.deny of its own."""

    def __init__(self, directory: Path) -> None:
        self.etc = directory / "etc"
        shutil.copytree("/etc", self.etc, symlinks=True)
        spool = f"mode=1730,gid={grp.getgrnam('crontab').gr_gid}"
        self._holder = subprocess.Popen(
            [
                *("unshare", "--mount", "sh", "-ec"),
                f"mount -t tmpfs -o {spool} tmpfs {SPOOL}; mount -t tmpfs tmpfs /run; "
                f"mount --bind {self.etc} /etc; echo up; exec cat",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--mount", "--"]

    def crontab(self, user: str) -> Crontab:
        """The crontab of a user, through the program run as that user."""
        known = pwd.getpwnam(user)
        became = ("setpriv", f"--reuid={known.pw_uid}", f"--regid={known.pw_gid}", "--clear-groups", "--")
        return Crontab((*self.enter, *became, "/usr/bin/crontab"))

    def end(self) -> None:
        self._holder.communicate("")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.end()


def rbee(machine: Machine, control: Control, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run(
        # nsenter leaves the current directory.
        [*machine.enter, "env", "-C", str(control.work), rbee_path(), *args],
        env=control.env | env,
        check=False,
        timeout=60,
    )


def test_a_users_crontab_is_read_and_written_byte_for_byte(machine: Machine) -> None:
    nobody = machine.crontab("nobody")
    assert nobody.read() == ""
    text = MINE.decode("utf-8", "surrogateescape")
    nobody.write(text)
    assert nobody.read() == text
    line = crontab.line("*/5 * * * *", ["/opt/my rbee", "100%", "cleanup"], "/tmp/log")
    nobody.write(crontab.install(nobody.read(), line))
    assert nobody.read() == f"{text}{line}\n"
    nobody.write(crontab.remove(nobody.read()))
    assert nobody.read() == text
    assert machine.crontab("daemon").read() == ""


def test_a_line_that_cron_refuses_leaves_the_old_crontab(machine: Machine) -> None:
    nobody = machine.crontab("nobody")
    nobody.write("0 0 * * * x\n")
    with pytest.raises(CronFailed, match=r"cannot be written: .*bad minute"):
        nobody.write("99 * * * * x\n")
    assert nobody.read() == "0 0 * * * x\n"


def test_a_user_who_may_have_none_is_told_so(machine: Machine) -> None:
    (machine.etc / "cron.deny").write_text("nobody\n")
    with pytest.raises(CronFailed, match=r"cannot be read: .*not allowed") as refused:
        machine.crontab("nobody").read()
    assert "/etc/cron.allow" in (refused.value.hint or "")


def test_the_program_is_found_without_a_path_as_in_cron() -> None:
    assert users_crontab({}).command == (shutil.which("crontab"),)


def test_install_status_and_remove(machine: Machine, control: Control) -> None:
    root = machine.crontab("root")
    root.write(MINE.decode("utf-8", "surrogateescape"))
    inventory = control.inventory(nodes_also={"here": {"host": "localhost"}})

    assert json.loads(rbee(machine, control, "cron", "status", "--json").stdout)["installed"] is False
    installed = rbee(machine, control, "--json", "cron", "install", "--every", "10m", "--idle", "90s")
    assert installed.returncode == 0, installed.stderr
    said = json.loads(installed.stdout)
    log = control.home / ".local/state/rbee/cron.log"
    # HOME is not root's, so cron would look for the registry elsewhere without being told.
    assert said["line"] == (
        f"*/10 * * * * /usr/bin/env HOME={control.home} {rbee_path()} --inventory {inventory}"
        f" cleanup --idle 90s >>{log} 2>&1 # rbee-cleanup"
    )
    assert (said["changed"], said["agent_only"], said["unreachable"], said["problem"]) == (True, [], [], None)
    assert root.read().encode("utf-8", "surrogateescape") == MINE + f"{said['line']}\n".encode()
    assert log.stat().st_mode & 0o777 == 0o600

    again = json.loads(
        rbee(machine, control, "--json", "cron", "install", "--every", "10m", "--idle", "90s").stdout
    )
    assert again["changed"] is False
    hourly = rbee(machine, control, "cron", "install", "--every", "1h")
    assert hourly.stdout.startswith("0 * * * * ")
    assert root.read().encode("utf-8", "surrogateescape") == MINE + hourly.stdout.encode()

    log.write_text("stopped w1\nstopped w2\n")
    status = json.loads(rbee(machine, control, "cron", "status", "--json").stdout)
    assert (status["installed"], status["schedule"], status["log"]) == (True, "0 * * * *", str(log))
    assert status["log_tail"] == ["stopped w1", "stopped w2"]
    shown = rbee(machine, control, "cron", "status").stdout
    assert shown == f"{hourly.stdout}  stopped w1\n  stopped w2\n"

    assert json.loads(rbee(machine, control, "cron", "remove", "--json").stdout) == {"removed": True}
    assert root.read().encode("utf-8", "surrogateescape") == MINE
    assert rbee(machine, control, "cron", "remove").stdout == "not installed\n"


def test_status_names_nodes_that_are_known_by_their_address_alone(machine: Machine, control: Control) -> None:
    (machine.etc / "hosts").write_text("127.0.0.1 localhost\n10.9.8.7 gpu1.lan\n10.9.8.6 gpu2.lan\n")
    key = new_key(control.home / "key")
    control.known_hosts.write_text(f"10.9.8.7 {key}\n10.9.8.6,gpu2.lan {key}\n")
    control.inventory(nodes_also={"one": {"host": "gpu1.lan"}, "two": {"host": "gpu2.lan"}})
    assert json.loads(rbee(machine, control, "cron", "status", "--json").stdout)["known_by_address"] == []
    machine.crontab("root").write("0 * * * * /opt/rbee cleanup >>/tmp/log 2>&1 # rbee-cleanup\n")
    shown = rbee(machine, control, "cron", "status")
    assert "one: known_hosts has no key for gpu1.lan" in (said := " ".join(shown.stderr.split()))
    assert "rbee nodes trust one" in said and "gpu2" not in said
    (one,) = json.loads(rbee(machine, control, "cron", "status", "--json").stdout)["known_by_address"]
    where = (one["node"], one["known_as"], one["file"], one["line"])
    assert where == ("one", "10.9.8.7", str(control.known_hosts), 1)
    Path(control.env["RBEE_INVENTORY"]).write_text("[nodes.x]\n")
    assert json.loads(rbee(machine, control, "cron", "status", "--json").stdout)["installed"]


def test_a_span_that_cron_cannot_repeat_is_refused_before_anything(
    machine: Machine, control: Control
) -> None:
    refused = rbee(machine, control, "cron", "install", "--every", "7m", "--json")
    assert refused.returncode == 2
    assert "6m and 10m" in json.loads(refused.stdout)["error"]["message"]
    assert machine.crontab("root").read() == ""


def test_no_crontab_program_names_the_package(machine: Machine, control: Control) -> None:
    run([*machine.enter, "mount", "--bind", "/dev/null", "/usr/bin/crontab"])
    refused = rbee(machine, control, "--json", "cron", "status")
    assert refused.returncode == 1
    error = json.loads(refused.stdout)["error"]
    assert (error["code"], error["hint"]) == ("CRON_FAILED", "sudo apt-get install cron")


def test_an_inventory_that_was_found_is_named_in_the_line(machine: Machine, control: Control) -> None:
    found = control.work / "inventory.toml"
    found.write_text('[nodes.here]\nhost = "localhost"\nlisten = "tcp"\n')
    found.chmod(0o644)
    assert rbee(machine, control, "cron", "install").returncode == 2
    assert rbee(machine, control, "inventory", "allow").returncode == 0
    installed = rbee(machine, control, "cron", "install")
    assert f"rbee --inventory {found} cleanup" in installed.stdout, installed.stderr
    assert f"the line names {found}: what that says when cron runs holds, allowed or not" in installed.stderr


def test_a_node_that_only_an_agent_opens_is_named_and_the_line_installed(
    machine: Machine, control: Control, make_node: MakeNode, tmp_path: Path
) -> None:
    ours, theirs = make_node(), make_node()
    key = tmp_path / "agent_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    theirs.authorize(key.with_suffix(".pub").read_text())
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until("ssh-agent listens", (tmp_path / "agent").exists)
        run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")})
        control.inventory(ours, theirs, nodes_also={"gone": {"host": "127.0.0.1", "port": 1}})
        said = rbee(machine, control, "cron", "install", SSH_AUTH_SOCK=str(tmp_path / "agent"))
    finally:
        agent.terminate()
        agent.wait()
    assert said.returncode == 0, said.stderr
    assert f"node {theirs.name}: only an SSH agent opens it" in said.stderr
    assert f"node {ours.name}" not in said.stderr
    assert "node gone is down: NODE_UNREACHABLE" in said.stderr
    assert machine.crontab("root").read() == said.stdout


@pytest.mark.slow
def test_the_real_cron_stops_an_idle_worker_and_passes_every_word_whole(
    machine: Machine, control: Control, make_node: MakeNode, engines: Engines, tmp_path: Path
) -> None:
    """Two lines, started by cron at the same full minute: rbee's own, and a stand-in that writes down its
    arguments and environment."""
    node = make_node()
    equip(control, engines, node)
    control.rbee("infer", *model(engines), "--max-tokens", "2", PROMPT, check=True)
    odd = tmp_path / "it's 100%\\% \\ $(x) é"
    odd.mkdir()
    program, log = odd / "rbee", odd / "log"
    program.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\necho\nenv | sort\npwd\necho end >&2\n")
    program.chmod(0o755)
    line = crontab.line("* * * * *", ["/usr/bin/env", "A=%", str(program), "a b", "", "#"], str(log))
    root = machine.crontab("root")
    # Without our mark it is somebody else's line, which install leaves alone.
    root.write(f'MAILTO=""\n{line.removesuffix(" # rbee-cleanup")}\n')
    installed = rbee(machine, control, "cron", "install", "--every", "1m", "--idle", "5s")
    assert installed.returncode == 0, installed.stderr
    cron = subprocess.Popen([*machine.enter, "cron", "-f", "-L", "0"], stderr=subprocess.DEVNULL)
    try:
        wait_until(
            "cron ran the line", lambda: log.exists() and "end\n" in log.read_text(), timeout=75, every=0.2
        )
        wait_until("the idle worker was stopped", lambda: not engines_on(node), timeout=75, every=0.5)
        told = control.home / ".local/state/rbee/cron.log"
        wait_until("it was told", lambda: "stopped " in told.read_text(), timeout=20, every=0.2)
    finally:
        cron.terminate()
        cron.wait()
    words, *environment, directory, _ = log.read_text().splitlines()
    assert words == "<a b><><#>"
    assert directory == pwd.getpwuid(0).pw_dir
    assert {"A=%", "PATH=/usr/bin:/bin", "SHELL=/bin/sh", f"HOME={directory}"} <= set(environment)
    assert not any(variable.startswith(("SSH_AUTH_SOCK=", "TERM=")) for variable in environment)
    assert workers(control) == []
