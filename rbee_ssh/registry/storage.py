"""TinyDB on a file that is always whole: read once, changed in memory, replaced by rename.

Loaded only when a transaction runs, because it imports tinydb. Whoever calls holds the registry's lock.
"""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from rbee_ssh.files import replace_file

SCHEMA = 1

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
