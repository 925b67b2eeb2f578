"""The registry: what this control machine remembers of workers and nodes, shared by all of its commands."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from rbee_ssh import files
from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.places import state_directory
from rbee_ssh.registry import worker_entry as entries
from rbee_ssh.registry.worker_entry import WorkerEntry

if TYPE_CHECKING:
    from tinydb.table import Table

    from rbee_ssh.registry.storage import Database
    from rbee_ssh.reporter import Reporter

P = ParamSpec("P")
T = TypeVar("T")

MAX_FACTS = 256  # oldest written goes first; a node has a handful
log = logging.getLogger("rbee.registry")
_CLIENT_ID = re.compile(r"[0-9a-f]{16}")


def default_path(environ: Mapping[str, str]) -> Path:
    """`${XDG_STATE_HOME:-~/.local/state}/rbee/registry.json`."""
    return Path(state_directory(environ), "registry.json")


class Registry:
    """Workers and facts in one small file. Every method is one transaction, safe against other processes.

    A transaction may wait, for another command or for the disk: a coroutine runs it by `off_loop`.

    The nodes know everything that stands here. So a file that cannot be read or written is a warning, once,
    and the registry then remembers nothing.

    Args:
        path: of the file; its lock and the client id stand beside it. Missing directories are made, 0700.
        reporter: told when a file is set aside, or when nothing can be remembered.
        lock_timeout: seconds to wait for another command's transaction.
        command: what the lock file calls this process, without arguments.

    Raises (every method):
        RegistryLocked: another command held the registry for `lock_timeout` seconds.
    """

    def __init__(
        self, path: Path, *, reporter: Reporter, lock_timeout: float = 10.0, command: str = "rbee"
    ) -> None:
        self.path = path
        self._reporter = reporter
        self._lock_timeout = lock_timeout
        self._command = command
        self._client_id: str | None = None
        self._unusable_reported = False
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def off_loop(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(*args)` returns or raises: one transaction of this registry, or several.

        It runs in a thread, so that the event loop goes on, after what was asked before: threads of one
        process would only wait for each other's lock. Whoever is cancelled here waits for nothing; a
        transaction that has begun is finished, or has not happened when the process ends before that.
        """
        async with self._turn:
            self._loop = asyncio.get_running_loop()
            return await in_daemon_thread(partial(work, *args, **kwargs))

    def workers(self, node: str | None = None) -> list[WorkerEntry]:
        """All remembered workers, or those of one node, oldest first."""
        entries_there = [entry for entry in self._stored().values() if node is None or entry.node == node]
        return sorted(entries_there, key=lambda entry: entry.created)

    def with_id(self, worker_id: str) -> list[WorkerEntry]:
        """The workers with this id: one, or that of a machine with two names under each, oldest first."""
        return [entry for entry in self.workers() if entry.id == worker_id]

    def warm(self, request: str) -> list[WorkerEntry]:
        """Workers to try first for a request with this fingerprint, newest first; none that has ended."""
        return entries.warm(self._stored().values(), request)

    def put(self, entry: WorkerEntry) -> None:
        """Remembers `entry`, in the place of the one of its node with its id, whose requests it inherits."""
        log.debug("remember worker %s on %s", entry.id, entry.node)
        self._change(lambda stored: entries.put(stored, entry))

    def forget(self, node: str, worker_id: str) -> None:
        """Forgets the worker, if it is known."""
        log.debug("forget worker %s", worker_id)
        self._change(lambda stored: {key: it for key, it in stored.items() if key != (node, worker_id)})

    def sync_node(self, node: str, present: list[WorkerEntry]) -> None:
        """Replaces everything remembered of `node` by what it has now; surviving ids keep their requests."""
        log.debug("%s has %d workers", node, len(present))
        self._change(lambda stored: entries.synced(stored, node, present))

    def facts(self, key: str) -> dict[str, Any] | None:
        """What `put_facts` kept under this key."""

        def look(database: Database) -> dict[str, Any] | None:
            document = database.table("facts").get(doc_id=_text_id(key))
            return dict(document) if document is not None else None

        return self._read(look)

    def facts_under(self, prefix: str) -> list[dict[str, Any]]:
        """What is kept under the keys that begin so, written last first."""

        def look(database: Database) -> list[dict[str, Any]]:
            table = database.table("facts")
            return [dict(document) for document in table if str(document.doc_id).startswith(prefix)]

        return (self._read(look) or [])[::-1]

    def put_facts(self, key: str, value: dict[str, Any]) -> None:
        """Keeps a JSON object under a key. The 256 keys written last are kept.

        Raises:
            TypeError: `value` is not JSON.
        """

        def change(database: Database) -> None:
            table = database.table("facts")
            kept = {str(document.doc_id): dict(document) for document in table}
            kept.pop(key, None)
            _refill(table, dict([*kept.items()][1 - MAX_FACTS :]) | {key: value})

        self._write(change)

    def client_id(self) -> str:
        """The random id of this control machine, 16 hexadecimal digits, the same for all of its commands.

        It stands in a file of its own, so that it outlives a registry that was set aside or deleted.
        """
        if self._client_id is None:
            path = self.path.with_name("client-id")
            self._client_id = _read_client_id(path) or self._make_client_id(path)
        return self._client_id

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether this process is the only one of this control machine inside the block of that name."""
        alone = True
        with ExitStack() as stack:
            # Where nothing can be written, nothing can be kept apart.
            with suppress(OSError):
                _make_private(self.path.parent)
                try:
                    lock = files.locked(self.path.with_name(f"{name}.lock"), timeout=0, create=True)
                    stack.enter_context(lock)
                except files.Held:
                    alone = False
            yield alone

    def _make_client_id(self, path: Path) -> str:
        made = os.urandom(8).hex()
        try:
            with self._lock(shared=False):
                theirs = _read_client_id(path)  # another command may have been first
                if theirs is None:
                    files.replace_file(path, f"{made}\n".encode())
                return theirs or made
        except OSError as problem:
            self._report_unusable(problem)
            return made

    def _stored(self) -> entries.Workers:
        return self._read(_workers) or {}

    def _change(self, change: Callable[[entries.Workers], entries.Workers]) -> None:
        def apply(database: Database) -> None:
            after = change(_workers(database))
            # A name for each, which nobody reads: an entry says its node and id itself.
            named = {" ".join(key): entries.encode(entry) for key, entry in after.items()}
            _refill(database.table("workers"), named)
            _refill(database.table("private"), {" ".join(key): {} for key, it in after.items() if it.private})

        self._write(apply)

    def _read(self, look: Callable[[Database], T]) -> T | None:
        """What `look` finds under a lock shared with other readers; None when nothing can be read."""
        from rbee_ssh.registry.storage import Database, Foreign

        try:
            with self._lock(shared=True), Database(self.path) as database:
                return look(database)
        except Foreign:
            return self._write(look)  # which may set the file aside, since it holds the lock alone
        except OSError as problem:
            self._report_unusable(problem)
            return None

    def _write(self, change: Callable[[Database], T]) -> T | None:
        """What `change` returns, once its changes are on the disk; None when nothing can be written."""
        try:
            with self._lock(shared=False), self._open() as database:
                result = change(database)
                database.commit()
                return result
        except OSError as problem:
            self._report_unusable(problem)
            return None

    def _open(self) -> Database:
        from rbee_ssh.registry.storage import Database, Foreign, set_aside

        try:
            return Database(self.path)
        except Foreign as problem:
            aside = set_aside(self.path)
            self._report(
                self._reporter.warn,
                f"the registry was damaged ({problem}): set aside as {aside}; the nodes will be asked again",
            )
            return Database(self.path)

    @contextmanager
    def _lock(self, *, shared: bool) -> Iterator[None]:
        from rbee_ssh.registry.storage import locked

        _make_private(self.path.parent)
        with locked(
            self.path.with_suffix(".lock"),
            shared=shared,
            timeout=self._lock_timeout,
            say=partial(self._report, self._reporter.say),
            command=self._command,
        ):
            yield

    def _report_unusable(self, problem: OSError) -> None:
        if not self._unusable_reported:
            self._unusable_reported = True
            self._report(
                self._reporter.warn,
                f"nothing can be remembered in {self.path.parent} ({problem.strerror or problem}); "
                "every command will ask the nodes again",
            )

    def _report(self, report: Callable[[str], None], text: str) -> None:
        """To the reporter, in the thread of the event loop, which writes to the same terminal."""
        try:
            (self._loop or asyncio.get_running_loop()).call_soon_threadsafe(report, text)
        except RuntimeError:  # there is none
            report(text)


def _workers(database: Database) -> entries.Workers:
    private = {str(document.doc_id) for document in database.table("private")}
    decoded = (entries.decode(document) for document in database.table("workers"))
    return {
        entry.key: replace(entry, private=" ".join(entry.key) in private)
        for entry in decoded
        if entry is not None
    }


def _refill(table: Table, documents: Mapping[str, Mapping[str, Any]]) -> None:
    from tinydb.table import Document

    table.truncate()
    table.insert_multiple(Document(document, _text_id(key)) for key, document in documents.items())


def _text_id(key: str) -> int:
    return cast(int, key)  # TinyDB's annotations know integer ids only


def _read_client_id(path: Path) -> str | None:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return None
    return text if _CLIENT_ID.fullmatch(text) else None


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    # One that somebody named (/tmp, say) stays as it is; the files in it are 0600 all the same.
    if directory.name == "rbee" and status.st_uid == os.getuid() and status.st_mode & 0o077:
        directory.chmod(0o700)
