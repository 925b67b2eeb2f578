"""The registry's file: TinyDB on a file that is always whole, under a lock that every transaction takes.

It is read once, changed in memory, and replaced by rename; the lock is flock on another file, which is never
renamed, and signed by its holder. Loaded only when a transaction runs, because it imports tinydb.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from rbee_ssh import files
from rbee_ssh.errors import RegistryLocked
from rbee_ssh.files import replace_file

SCHEMA = 1
log = logging.getLogger("rbee.registry")

Tables = dict[str, dict[str, Any]]


class Foreign(Exception):
    """The file is not a registry of ours: torn, somebody else's, or of an unknown schema."""


class WholeFileStorage(Storage):
    """A TinyDB storage whose writes reach the file in one piece, with `commit()`, or not at all.

    Raises:
        Foreign: the file holds something else.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = _read_text(path)
        self._tables = parse(self._text) if self._text is not None else _empty()

    def read(self) -> Tables:
        return self._tables

    def write(self, data: Tables) -> None:
        self._tables = data

    def commit(self) -> None:
        """Replaces the file by what was written since it was read, unless that is the same.

        Raises:
            OSError: the disk is full, the directory is not ours to write. The file is as it was.
        """
        text = json.dumps(self._tables, separators=(",", ":"))
        if text != self._text:
            replace_file(self._path, text.encode())
            self._text = text


class StringIdTable(Table):
    document_id_class = str  # type: ignore[assignment]  # TinyDB's stubs know integers only


class Database(TinyDB):
    """A TinyDB whose documents are named by strings."""

    table_class = StringIdTable

    def __init__(self, path: Path) -> None:
        self._file = WholeFileStorage(path)
        super().__init__(storage=lambda: self._file)

    def commit(self) -> None:
        """Puts the changes on the disk. Raises OSError when it cannot; the file is then as it was."""
        self._file.commit()


def parse(text: str) -> Tables:
    """The tables a registry file holds.

    Raises:
        Foreign: it holds something else; the message says what.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise Foreign("not whole JSON") from problem
    if not _is_tables(data):
        raise Foreign("not a registry")
    schema = data.get("meta", {}).get("schema", {}).get("version")
    if schema != SCHEMA or isinstance(schema, bool):
        raise Foreign(f"its schema version is not {SCHEMA}")
    tables: Tables = data
    return tables


def set_aside(path: Path) -> Path:
    """Renames what stands at `path` to a name of its own and returns that."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.stem}.corrupt-{moment}{path.suffix}")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.stem}.corrupt-{moment}-{number}{path.suffix}")
    if stat.S_ISREG(os.lstat(path).st_mode):
        path.chmod(0o600)  # it may hold API keys
    path.rename(aside)
    return aside


def _empty() -> Tables:
    return {"meta": {"schema": {"version": SCHEMA}}}


def _is_tables(data: Any) -> bool:
    return isinstance(data, dict) and all(
        isinstance(table, dict) and all(isinstance(document, dict) for document in table.values())
        for table in data.values()
    )


def _read_text(path: Path) -> str | None:
    try:
        # Without O_NONBLOCK a FIFO in the file's place would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Foreign("not a file")
    with open(descriptor, "rb") as file:
        try:
            return file.read().decode()
        except UnicodeDecodeError as problem:
            raise Foreign("not text") from problem


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who signed the lock last."""

    pid: int
    host: str
    command: str


def parse_holder(text: str) -> LockHolder | None:
    """The signature in a lock file: `PID HOST COMMAND`; None when it is not one."""
    words = text.strip().split(" ", 2)
    if len(words) != 3 or not (words[0].isascii() and words[0].isdigit()):
        return None
    return LockHolder(int(words[0]), words[1], words[2])


def refusal(path: Path, holder: LockHolder | None, here: str, waited: float) -> RegistryLocked:
    """The error of a lock that was not given up in `waited` seconds; `here` is this machine's host name."""
    if holder is None:
        who, hint = "another command", f"see who has it open: fuser -v {path}"
    elif holder.host != here:
        who = f"process {holder.pid} on {holder.host} ({holder.command})"
        hint = f"on {holder.host}: ps -o pid,etime,args -p {holder.pid}"
    else:
        who = f"process {holder.pid} ({holder.command})"
        hint = f"see what it is doing: ps -o pid,etime,args -p {holder.pid}"
    return RegistryLocked(
        f"the registry is held by {who}, waited {waited:g} s for {path}",
        hint=hint,
        details={
            "path": str(path),
            "pid": holder.pid if holder else None,
            "host": holder.host if holder else None,
            "command": holder.command if holder else None,
            "waited_seconds": waited,
        },
    )


@contextmanager
def locked(
    path: Path, *, shared: bool, timeout: float, say: Callable[[str], None], command: str
) -> Iterator[None]:
    """Holds the lock at `path` while the block runs.

    Args:
        shared: several readers may hold it at once.
        timeout: seconds to wait for other holders.
        say: told that it is waited.
        command: what this process calls itself in the lock file; no arguments, they may hold a prompt.

    Raises:
        RegistryLocked: it was held all that time.
        OSError: the lock file cannot be made or opened.
    """

    def on_wait() -> None:
        say("waiting for another command to let go of the registry")

    began = time.monotonic()
    try:
        with files.locked(path, timeout=timeout, create=True, shared=shared, on_wait=on_wait) as descriptor:
            log.debug("lock had after %.0f ms", (time.monotonic() - began) * 1000)
            signature = f"{os.getpid()} {_here()} {command}\n".encode()
            os.pwrite(descriptor, signature, 0)
            os.ftruncate(descriptor, len(signature))
            yield
    except files.Held as held:
        raise refusal(path, _holder(str(held)), _here(), timeout) from None


def _holder(signature: str) -> LockHolder | None:
    holder = parse_holder(signature)
    if holder is None or (holder.host == _here() and not _alive(holder.pid)):
        return None  # the last to sign has gone: one of several readers, or killed before the next signed
    return holder


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _here() -> str:
    return os.uname().nodename
