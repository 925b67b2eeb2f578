"""A holder of namespaces: the process whose life is the node's life, and the way in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from nodekit.claims import start_time
from nodekit.running import run

INIT = Path(__file__).with_name("init.py")
NODE = ("net", "mount", "pid", "uts")
NETWORK_ONLY = ("net",)


class Namespaces:
    """Fresh namespaces around one init.py, with a cable (a veth pair) into the lab's bridge.

    Args:
        kinds: NODE for a machine, NETWORK_ONLY for a control machine with a network of its own.
        directory: where the script goes and the init's pid is recorded.
        bridge: the bridge to plug into.
        cable: the host's end of the veth pair, 15 bytes at most.
        script: what process 1 runs, as sh text.
    """

    def __init__(self, kinds: tuple[str, ...], directory: Path, bridge: str, cable: str, script: str) -> None:
        self.kinds, self.cable = kinds, cable
        self.pid: int | None = None  # process 1, as the host counts it
        path = directory / "boot.sh"
        path.write_text(script)
        holder = ["unshare", *(f"--{kind}" for kind in kinds)]
        if "pid" in kinds:
            holder += ["--fork", "--kill-child=KILL"]
        self.log = (directory / "holder.log").open("w")
        # -I: no site-packages, no environment; the lab's stdin pipe is what keeps it alive.
        self._holder = subprocess.Popen(
            [*holder, sys.executable, "-I", "-S", os.fspath(INIT), os.fspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            encoding="utf-8",
            start_new_session=True,
            cwd="/",
        )
        try:
            first = self._line()
            if not first.isdigit():
                raise AssertionError(f"no namespaces: {(directory / 'holder.log').read_text()}")
            self.pid = int(first)
            (directory / "init.pid").write_text(f"{self.pid} {start_time(self.pid)}")
            run(
                ["ip", "-batch", "-"],
                input=f"link add {cable} type veth peer name eth0 netns {self.pid}\n"
                f"link set {cable} master {bridge} up\n",
            )
            assert self._holder.stdin is not None
            self._holder.stdin.write("\n")
            self._holder.stdin.flush()
            said = self._line()
            if said != "up":
                raise AssertionError(f"the node did not boot: {said}")
        except BaseException:
            self.end()
            raise

    def _line(self) -> str:
        assert self._holder.stdout is not None
        return self._holder.stdout.readline().strip()

    @property
    def root(self) -> Path:
        """The node's file system as the host sees it, /proc included."""
        return Path(f"/proc/{self.pid}/root")

    def enter(self, *more: str) -> list[str]:
        """The words that put a command into the namespaces. `more` goes to nsenter."""
        kinds = [f"--{kind}" for kind in self.kinds]
        if "mount" in self.kinds:
            kinds.append("--root")  # where the tests run in a chroot, the node does too
        return ["nsenter", f"--target={self.pid}", *kinds, *more, "--"]

    def unplug(self) -> None:
        run(["ip", "link", "set", self.cable, "down"])

    def plug(self) -> None:
        run(["ip", "link", "set", self.cable, "up"])

    def remove_cable(self) -> None:
        run(["ip", "link", "delete", self.cable], check=False)

    def end(self) -> None:
        """Kill everything inside; returns when it is gone."""
        if self.pid is not None and self._holder.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        # unshare follows its child and collects it; killed first, it would leave that to the host's init.
        try:
            self._holder.wait(5.0)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.log.close()
        # The kernel takes a dead namespace's links away in its own time; the name is wanted back now.
        self.remove_cable()
