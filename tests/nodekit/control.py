"""A control machine: an empty home with a key in it, and `rbee` run from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from nodekit.claims import end_processes_of
from nodekit.namespace import Namespaces
from nodekit.node import LabNode
from nodekit.running import run

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Control:
    """One control machine. Made by `NodeLab.control`.

    Attributes:
        home: HOME of every command run from it, mode 0700.
        work: the directory commands run in; no inventory.toml is found there.
        env: the whole environment of a command, a few plain variables.
        known_hosts, ssh_config: its files under ~/.ssh.
        address: its own on the bridge, when it was made with a network of its own.
    """

    def __init__(self, home: Path, key: Path | None, spaces: Namespaces | None, address: str | None) -> None:
        self.home, self.address, self._spaces = home, address, spaces
        self.work = home / "work"
        self.env: dict[str, str] = {"HOME": str(home), "PATH": PATH, "LANG": "C.UTF-8", "TERM": "dumb"}
        self._running: list[subprocess.Popen[str]] = []
        home.chmod(0o700)
        (home / ".control").touch()
        self.work.mkdir(mode=0o755)
        ssh = home / ".ssh"
        ssh.mkdir(mode=0o700)
        self.known_hosts, self.ssh_config = ssh / "known_hosts", ssh / "config"
        if key is not None:
            for source, name in ((key, "id_ed25519"), (key.with_suffix(".pub"), "id_ed25519.pub")):
                shutil.copyfile(source, ssh / name)
                (ssh / name).chmod(0o600)

    def trust(self, *nodes: LabNode) -> None:
        """Write the nodes' host keys into known_hosts."""
        with self.known_hosts.open("a") as file:
            file.writelines(node.host_key_line + "\n" for node in nodes)

    def inventory(
        self,
        *nodes: LabNode,
        every: Mapping[str, Any] | None = None,
        nodes_also: Mapping[str, Mapping[str, Any]] | None = None,
        text: str = "",
        trust: bool = True,
        name: str = "inventory.toml",
    ) -> Path:
        """Write an inventory of these nodes and name it in RBEE_INVENTORY for the commands that follow.

        Args:
            every: keys for each of the nodes (engine_path, python, …).
            nodes_also: keys by node name, put into that node's table; a name of no given node makes a table.
            text: TOML put first ([defaults], [models.…], [timeouts]).
            trust: write the nodes' host keys into known_hosts as well.
        """
        also = {key: dict(value) for key, value in (nodes_also or {}).items()}
        lines = [text, ""]
        for node in nodes:
            where = {"host": node.address, "port": node.port, "user": node.user}
            lines += _table(node.name, where | dict(every or {}) | also.pop(node.name, {}))
        for other, keys in also.items():
            lines += _table(other, keys)
        path = self.home / name
        path.write_text("\n".join(lines))
        path.chmod(0o600)
        self.env["RBEE_INVENTORY"] = str(path)
        if trust:
            self.trust(*nodes)
        return path

    @property
    def way_in(self) -> list[str]:
        """The words before any command run from here: none, or those that enter its own network."""
        return self._spaces.enter() if self._spaces else []

    def _argv(self, args: Sequence[str | os.PathLike[str]]) -> list[str]:
        return [*self.way_in, rbee_path(), *(os.fspath(word) for word in args)]

    def rbee(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,
        timeout: float = 60.0,
        check: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the installed `rbee` to its end. `env` adds to the bare environment."""
        return run(
            self._argv(args),
            input=input,
            timeout=timeout,
            check=check,
            env=self.env | dict(env or {}),
            cwd=self.work,
        )

    def failed(self, *args: str | os.PathLike[str], status: int = 1) -> dict[str, Any]:
        """The error of a command, told by `--json`; it is run again, and has to say the same in text.

        Numbers and ids may differ: each run has its own.
        """
        answer, text = self.rbee("--json", *args), self.rbee(*args)
        assert (answer.returncode, text.returncode) == (status, status), answer.stdout + text.stderr
        error: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])["error"]
        assert error.keys() == {"code", "message", "hint", "details"}
        assert text.stdout == ""
        assert "Traceback" not in answer.stderr + text.stderr
        told = _alike(text.stderr)
        assert _alike(f"error: {error['message']}") in told, text.stderr
        assert error["hint"] is None or _alike(f"hint: {error['hint']}") in told, text.stderr
        return error

    def rbee_popen(
        self,
        *args: str | os.PathLike[str],
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start `rbee` and return at once; its pid is rbee's own. The lab's end kills it if need be."""
        process = subprocess.Popen(
            self._argv(args),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            env=self.env | dict(env or {}),
            cwd=self.work,
        )
        self._running.append(process)
        return process

    def cut(self) -> None:
        """This control machine's network goes silent; nothing is closed, others go on."""
        self._iptables("-I INPUT 1 -i eth0 -j DROP")
        self._iptables("-I OUTPUT 1 -o eth0 -j DROP")

    def mend(self) -> None:
        """Undo `cut`."""
        self._iptables("-D INPUT -i eth0 -j DROP")
        self._iptables("-D OUTPUT -o eth0 -j DROP")

    def clock_off(self, seconds: int) -> None:
        """From now on the commands see a clock that is so far ahead, or behind when negative; 0 undoes it.
        What measures a time without a clock (monotonic) goes right."""
        if seconds:
            places = [Path("/usr/lib"), Path("/usr/lib64"), *Path("/usr/lib").glob("*-linux-*")]
            found = [
                each for each in (place / "faketime/libfaketime.so.1" for place in places) if each.exists()
            ]
            if not found:
                pytest.skip("a wrong clock needs libfaketime: apt-get install faketime")
            self.env |= {"LD_PRELOAD": str(found[0]), "FAKETIME": f"{seconds:+d}"}
            self.env["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
        else:
            for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
                self.env.pop(name, None)

    def _iptables(self, rule: str) -> None:
        assert self._spaces is not None, "made without own_network=True"
        run([*self._spaces.enter(), "iptables", "-w", *rule.split()])

    def remove(self) -> None:
        """End what still runs from this home, workers of node localhost included, and delete it."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        end_processes_of(self.home)
        if self._spaces is not None:
            self._spaces.end()
        shutil.rmtree(self.home, ignore_errors=True)


def _alike(text: str) -> str:
    """Without what differs from run to run, and however its lines are broken."""
    return " ".join(re.sub(r"\b(?=\w*\d)[0-9a-f]{12}\b|\d+(\.\d+)?", "#", text).split())


def rbee_path() -> str:
    """The `rbee` beside the Python that runs the tests."""
    path = Path(sys.executable).with_name("rbee")
    if not path.exists():
        pytest.fail(f"{path} is missing: pip install -e . (or run scripts/test)")
    return str(path)


def _table(name: str, keys: Mapping[str, Any]) -> list[str]:
    return [f"[nodes.{name}]", *(f"{key} = {_toml(value)}" for key, value in keys.items()), ""]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 else c for c in text) + '"'
