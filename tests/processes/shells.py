"""Every shell that may be a node's `sh`, and the scripts of a node run under it on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.node.scripts import LIB, LOOK, SUPERVISE, compose, source
from rbee_ssh.ssh.quote import wrap
from rbee_ssh.workers.cleanup import BODY as CLEANUP
from rbee_ssh.workers.records import LOOK_BODY, Record, WorkerSnapshot, parse
from rbee_ssh.workers.start import START
from rbee_ssh.workers.stop import BODY as STOP

# `applets` has nothing but busybox in PATH, as on a small Linux.
SHELLS = {"dash": "dash", "bash": "bash", "zsh": "zsh", "applets": "busybox"}
SYSTEM = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# Not the same in two runs at once: an engine is found by the id in its environment, and ended.
ID = secrets.token_hex(6)


@dataclass(frozen=True)
class Shell:
    """A machine, as far as scripts can tell: a home, and a PATH whose `sh` is this shell."""

    name: str
    home: Path
    path: str

    @property
    def root(self) -> Path:
        """The state directory that rbee_init makes."""
        (root,) = (self.home / ".local/state/rbee").iterdir()
        return root

    def worker(self, worker_id: str = ID, **files: str) -> Path:
        """A worker's directory; with files, it is made with these. `_` in a name stands for `-`."""
        directory = self.root / "workers" / worker_id
        if files:
            directory.mkdir()
            for name, text in {"boot": boot(), "match": "m", **files}.items():
                (directory / name.replace("_", "-")).write_text(text + "\n")
        return directory

    def popen(self, text: str, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts `text` with `args` as $1, $2, …, as it is sent to a node."""
        environ = {"HOME": str(self.home), "PATH": self.path, **(env or {})}
        sh = shutil.which("sh", path=self.path)
        assert sh is not None
        process = subprocess.Popen(
            # By this very name: a shell that is called `sh` keeps to POSIX.
            ["sh"],
            executable=sh,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            cwd=self.home,
            env=environ,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(wrap(text, args, "marker"))
        process.stdin.close()
        process.stdin = None  # or communicate() wants to flush it
        return process

    def run(self, text: str, *args: str, env: Mapping[str, str] | None = None) -> str:
        """What `text` prints. Whatever goes to stderr fails the test: nobody on a node reads it."""
        out, err = self.popen(text, *args, env=env).communicate(timeout=60)
        assert not err, err
        return out.split("marker\n", 1)[1]

    def lib(self, text: str, *args: str, env: Mapping[str, str] | None = None) -> str:
        """What `text` prints behind the shared functions, initialised."""
        return self.run(compose(LIB, LOOK, then=f"rbee_init || return\n{text}"), *args, env=env)

    def look(self) -> WorkerSnapshot:
        return parse(self.run(LOOK_BODY).split("\n"))

    def record(self, worker_id: str = ID) -> Record:
        record = self.look().record(worker_id)
        assert record is not None, f"no record of {worker_id}"
        return record

    def start_words(
        self,
        run_sh: str,
        *,
        worker_id: str = ID,
        match: str = "match",
        lease: int = 3600,
        ready: str = "model loaded",
        socket: str | None = "",
        late: bool = True,
        patience: int = 10,
        owner: str = "me",
        tick: float = 5,
        spec: str = "{}",
        decided: tuple[str, str, str] = ("", "", ""),
    ) -> list[str]:
        """The arguments of start.sh for an engine that is the script `run_sh`.

        Args:
            socket: its path, "" for the one in the worker's directory, None for TCP.
            late: the engine is not waited for by its socket, but by its log.
            tick: seconds between two looks of the supervisor.
            decided: the workers that were seen, bytes of RAM and of the device that are left.
        """
        supervise = (source(LIB) + source(SUPERVISE)).replace('sleep "$RBEE_TICK"', f"sleep {tick}")
        if socket == "":
            socket = f"$DIRECTORY/{worker_id}/worker.sock"
        root = self.lib("printf %s $ROOT")
        place = f"{root}/workers"
        values = {
            "id": worker_id,
            "match": match,
            "spec": spec,
            "run": run_sh,
            "supervise": supervise,
            "lease": lease,
            "ready-pattern": ready,
            "port-pattern": "" if socket else "port ",
            "socket": (socket or "").replace("$DIRECTORY", place),
            "late": "1" if late else "",
            "patience": patience,
            "model": "",
            **dict(zip(("seen", "ram-left", "device-left"), decided, strict=True)),
        }
        return [*(f"{name}={value}" for name, value in values.items()), "--", "owner", owner + "\n"]

    def start(self, words: Sequence[str]) -> WorkerSnapshot:
        return parse(self.run(compose(LIB, LOOK, START), *words).split("\n"))

    def stop(self, *ids: str, drain: int = 0, term: int = 5) -> WorkerSnapshot:
        return parse(self.run(STOP, str(drain), str(term), *ids).split("\n"))

    def cleanup(self, *, idle: int = 0, dry: bool = False, owner: str = "", term: int = 5) -> WorkerSnapshot:
        return parse(self.run(CLEANUP, str(idle), "1" if dry else "", owner, str(term)).split("\n"))


def make(name: str, directory: Path) -> Shell:
    """A shell with a home under `directory`, or a skip where it is not installed."""
    program = shutil.which(SHELLS[name])
    if program is None:
        pytest.skip(f"{SHELLS[name]} is not installed")
    home, programs = directory / "home", directory / "programs"
    home.mkdir()
    programs.mkdir()
    if name == "applets":
        subprocess.run(["busybox", "--install", "-s", str(programs)], check=True)
        return Shell(name, home, str(programs))
    (programs / "sh").symlink_to(program)
    return Shell(name, home, f"{programs}:{SYSTEM}")


@contextmanager
def running(*command: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process of the test's own, which is killed when the test is over or has failed."""
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if options.get("start_new_session") else process.kill()
        process.wait()


def processes_of(home: Path) -> dict[int, str]:
    """pid → command line of what runs with this HOME."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environ = (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"HOME={home}".encode() in environ and words != [b""]:
                found[int(entry.name)] = b" ".join(words).decode(errors="replace").strip()
    return found


@contextmanager
def ending_processes(shell: Shell) -> Iterator[Shell]:
    """Ends what the block left running."""
    try:
        yield shell
    finally:
        while left := processes_of(shell.home):
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> str:
    """What tells a process from a later one with its pid."""
    return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"


@contextmanager
def listening(path: Path | str, *, at: Path | None = None) -> Iterator[socket.socket]:
    """A listening UNIX socket, bound as `path` (from the directory `at`)."""
    before = os.getcwd()
    os.chdir(at or before)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            yield listener
    finally:
        os.chdir(before)


@contextmanager
def connected(path: Path | str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        yield


@contextmanager
def short_home(name: str) -> Iterator[Shell]:
    """A shell whose home has so short a path that sockets fit into it: theirs have 108 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    try:
        with ending_processes(make(name, directory)) as shell:
            shell.lib(":")
            yield shell
    finally:
        shutil.rmtree(directory)
