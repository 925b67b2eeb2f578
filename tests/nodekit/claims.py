"""Which lab is whose, and what a killed one left behind.

Every lab owns a number, a directory /var/tmp/rbee/<number> and a lock file that it holds open for its life.
The kernel lets go of the lock when the process dies, however it dies, so a lab whose lock is free is
nobody's and can be cleared away. Home directories below it stay short on purpose: the path of a worker's
UNIX socket has about a hundred bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodekit.running import run

NUMBERS = range(250)


def root_directory() -> Path:
    """Where labs live: made when missing; refused when somebody else could have made it."""
    path = Path("/var/tmp/rbee" if os.geteuid() == 0 else f"/var/tmp/rbee-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o755)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise AssertionError(f"{path} is not a directory that only its owner, this user, can write to")
    return path


def bridge_name(number: int) -> str:
    return f"rbee{number}"


@dataclass
class Claim:
    """A lab's number and directory, held until released."""

    number: int
    directory: Path
    lock: int

    def release(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        lock_path(self.directory.parent, self.number).unlink(missing_ok=True)
        os.close(self.lock)


def lock_path(root: Path, number: int) -> Path:
    return root / f"{number}.lock"


def claim() -> Claim:
    """Clear away what dead labs left, then take the first free number."""
    root = root_directory()
    with _exclusive(root):
        sweep(root)
        for number in NUMBERS:
            path = lock_path(root, number)
            if path.exists() or Path("/sys/class/net", bridge_name(number)).exists():
                continue
            lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            directory = root / str(number)
            directory.mkdir(mode=0o755)
            return Claim(number, directory, lock)
    raise AssertionError(f"{len(NUMBERS)} labs are running: see {root}")


def sweep(root: Path) -> None:
    """End the processes, links and files of every lab whose owner is dead."""
    for path in root.glob("*.lock"):
        number = int(path.stem)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # released meanwhile
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            # A lab that is released takes its name away before it lets go: then there is nothing to clear.
            if os.fstat(lock).st_nlink:
                clear(root / str(number), number)
                path.unlink(missing_ok=True)
        finally:
            os.close(lock)


def clear(directory: Path, number: int) -> None:
    """What one dead lab left: processes by pid, its bridge, its directory."""
    for home in homes(directory):
        end_processes_of(home)
    for record in directory.glob("*/init.pid"):
        with contextlib.suppress(ValueError, OSError):
            pid, started = record.read_text().split()
            if start_time(int(pid)) == started:
                os.kill(int(pid), signal.SIGKILL)
    if os.geteuid() == 0:
        run(["ip", "link", "delete", bridge_name(number)], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def homes(directory: Path) -> Iterator[Path]:
    """The homes of a lab's control machines: what runs with one of these ran for the lab."""
    for pattern in ("*/.control", "*/home/.control"):  # the latter: a node without root
        for mark in directory.glob(pattern):
            yield mark.parent


def start_time(pid: int) -> str | None:
    """A process's start time in clock ticks since boot, as text; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def end_processes_of(home: Path) -> list[int]:
    """Kill every process whose HOME this is or whose arguments lie below it; returns their pids.

    A worker on node localhost outlives its command by design, so the lab has to end it.
    """
    ended = []
    # A process in the middle of its exec shows no words yet, so it is looked at again.
    for _ in range(100):
        seen = [_end_if_theirs(pid, os.fsencode(home)) for pid in _pids()]
        ended += [pid for pid, theirs in seen if theirs]
        if not any(theirs is None for _, theirs in seen):
            break
        time.sleep(0.01)
    return ended


def _end_if_theirs(pid: int, home: bytes) -> tuple[int, bool | None]:
    """Kill it if it runs for that home; what `_runs_for` says of it."""
    try:
        # Opened before the look: what is killed is what was looked at, not a later process with its pid.
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid, False
    try:
        theirs = _runs_for(pid, home)
        if theirs:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        return pid, theirs
    finally:
        os.close(process)


def runs_for(home: Path) -> list[int]:
    """The processes whose HOME this is or whose arguments lie below it."""
    return [pid for pid in _pids() if _runs_for(pid, os.fsencode(home))]


def _pids() -> list[int]:
    names = (entry.name for entry in Path("/proc").iterdir())
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _runs_for(pid: int, home: bytes) -> bool | None:
    """Does this process run for that home? None while it cannot be told."""
    entry = Path(f"/proc/{pid}")
    try:
        environment, arguments = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        if not environment and not arguments:
            (entry / "exe").readlink()  # the kernel's own and the dead have none
            return None
    except OSError:
        return False
    below = (word.partition(b"=")[2] or word for word in arguments.split(b"\0"))
    return b"HOME=" + home in environment.split(b"\0") or any(
        path == home or path.startswith(home + b"/") for path in below
    )


@contextlib.contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    lock = os.open(root / "claims", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
