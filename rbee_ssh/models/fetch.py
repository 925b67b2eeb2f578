"""A model from the hub or a URL to one node, fetched there by a process of its own that outlives us.

This side finds or starts that process, watches it, brings a new link when one has expired, says how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rbee_ssh.errors import DownloadFailed, RbeeError, ResponseInvalid
from rbee_ssh.models import fetch_failure, prove
from rbee_ssh.models.prove import Prover, doubt
from rbee_ssh.models.remote import Remote, is_link
from rbee_ssh.node.scripts import LIB, OWNERS, compose, source
from rbee_ssh.node.text import plain
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.story import Story

STORE = prove.STORE
FETCH = Path(__file__).with_name("fetch.sh")
JOB = Path(__file__).with_name("fetch_job.sh")
GET = Path(__file__).with_name("get.py")
FOLLOW_SECONDS = 60  # of one question; then it is asked again
_RUNNING = frozenset({"beginning", "renewed", "fetching", "waiting", "verifying"})
REST_SECONDS = 0.5  # between two questions: a node may answer anything, at once
MIB = 2**20
Links = Callable[[], Awaitable[Sequence[str] | None]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model on a node: the absolute path of the file for the engine, bytes of all files, Unix seconds.

    `fresh`: it was not there before. `running`: it is still being fetched, and `path` is where it will be.
    """

    path: str
    size: int
    mtime: int
    fresh: bool = True
    running: bool = False


class NoLink(Exception):
    """Only a token opens a file, and tokens stay here: it has to go through this machine."""


@dataclass(slots=True)
class _Answer:
    """What fetch.sh said, the last of each."""

    state: str = ""
    done: int = 0
    problem: list[str] = field(default_factory=list)
    locked: str = ""
    unverified: bool = False
    unproven: list[tuple[str, str]] = field(default_factory=list)  # SHA-256, path
    files: list[tuple[int, int, str]] = field(default_factory=list)  # size, mtime, path


async def fetch(
    connection: Connection,
    remote: Remote,
    models_dir: str,
    links: Links,
    story: Story,
    *,
    detach: bool = False,
) -> Fetched:
    """Have the node fetch the model, or find it there; a fetch that runs already is joined.

    Cancelling stops the process if this call has started it, except for SIGHUP; what it has fetched stays.

    Args:
        models_dir: the node's store, absolute or with a leading ~/.
        links: gives the URL of each file for a node; None when a file cannot be had without a token.
        detach: come back as soon as it runs.

    Raises:
        NoLink: the files have to go through this machine.
        DiskShort, DiskFull: they do not fit, or stopped fitting; the partial file is removed.
        DownloadFailed: no byte came, in all tries; the partial file stays, and the next call goes on there.
        ChecksumMismatch: what came differs, twice.
        ModelNotFound, ModelForbidden, ModelInvalid: what the server says; no GGUF file.
        ShellUnusable, NodeLocked: the node cannot be written, or its lock stays taken.
        ConnectionLost: the process goes on.
    """
    watch = _Watch(connection, remote, models_dir, links, story)
    try:
        return await watch.to_the_end(detach=detach)
    except asyncio.CancelledError as error:
        # A terminal that was closed, or a login that broke, is nobody's wish to stop.
        if watch.ours and "SIGHUP" not in error.args:
            with contextlib.suppress(RbeeError):
                await asyncio.shield(watch.ask("stop"))
            story.say(
                f"stopped; what {connection.name} has of {remote.name} stays, and the next pull goes on there"
            )
        raise


async def find(connection: Connection, remote: Remote, models_dir: str, story: Story) -> Fetched | None:
    """The model, if the node has it.

    Raises:
        DiskShort: it has not, and has no room for it.
        ShellUnusable, NodeLocked, ConnectionLost: as `fetch`.
    """

    async def links() -> None: ...

    watch = _Watch(connection, remote, models_dir, links, story)
    while (answer := await watch.ask("look")).unproven:
        await watch.prover.prove(answer.unproven)
    return watch.found(answer)


class _Watch:
    """One model on its way to one node, seen from here."""

    def __init__(
        self, connection: Connection, remote: Remote, models_dir: str, links: Links, story: Story
    ) -> None:
        self._connection, self._remote, self._models_dir = connection, remote, models_dir
        self._links, self._story = links, story
        self._label = f"fetching {remote.name} on {connection.name}"
        self._said = ""
        self._joined = False
        self.ours = False
        self.prover = Prover(connection, models_dir, story)

    async def to_the_end(self, *, detach: bool) -> Fetched:
        remote, connection = self._remote, self._connection
        mode: str = "look"
        links: Sequence[str] = ()
        fresh = False
        restarts = 1
        while True:
            answer = await self.ask(mode, links, seconds=0 if detach else FOLLOW_SECONDS)
            if answer.unproven:
                await self.prover.prove(answer.unproven)
                continue
            fetch_failure.complain(connection.name, remote, answer.problem, answer.locked)
            word = answer.state.split(" ")[0]
            if word in ("present", "done"):
                return self._placed(answer, fresh=fresh or word == "done")
            if (word == "absent" and not fresh) or word == "expired" or (word == "gone" and restarts):
                restarts -= word == "gone"
                if word == "expired":
                    await asyncio.sleep(REST_SECONDS)
                found = await self._links()
                if found is None:
                    raise NoLink
                if word == "absent":
                    size = f" ({remote.size / MIB:.1f} MiB)" if remote.size is not None else ""
                    self._story.say(f"fetching {remote.name}{size} on {connection.name}")
                mode, links, fresh = "start", found, True
            elif answer.state == "failed stopped" and not self.ours and restarts:
                # By the command that had started it; this one still wants the file.
                restarts -= 1
                mode, links = "look", ()
            elif word in ("failed", "gone"):
                tries = connection.timeouts.download_tries
                raise fetch_failure.ended(connection.name, remote, answer.state, answer.done, tries)
            elif word not in _RUNNING:
                raise ResponseInvalid(
                    f"node {connection.name!r} does not say how far {remote.name} is",
                    hint=f"rbee --verbose nodes status {connection.name}",
                    details={"node": connection.name, "state": word},
                )
            elif detach:
                return Fetched(self._path(), remote.size or 0, 0, running=True)
            else:
                mode, links = "look", ()
                await asyncio.sleep(REST_SECONDS)

    def found(self, answer: _Answer) -> Fetched | None:
        """Where it is, if it is there."""
        problem, locked = answer.problem, answer.locked
        fetch_failure.complain(self._connection.name, self._remote, problem, locked)
        return self._placed(answer, fresh=False) if answer.state == "present" else None

    async def ask(self, mode: str, links: Sequence[str] = (), *, seconds: int = 0) -> _Answer:
        """One run of fetch.sh, which follows for a while."""
        timeouts = self._connection.timeouts
        place = self._remote.files[0].place.rpartition("/")[0]
        now = int(time.time())
        # The first file last: where it is, all are.
        files = list(reversed(self._remote.files))
        etag = self._remote.revision if len(files) == 1 and files[0].sha256 is None else None
        words = [mode, self._models_dir.rstrip("/"), place, str(seconds)]
        words += [str(timeouts.download_tries), str(round(timeouts.download_wait * 1000))]
        words += [
            str(max(1, round(timeouts.download_stall))),
            compose(LIB, OWNERS, STORE, JOB),
            source(GET),
        ]
        for file in files:
            size = "" if file.size is None else str(file.size)
            note = self._remote.note(file, now).to_json()
            words += [file.name, size, file.sha256 or "", etag or "", note]
        answer = _Answer()
        body = compose(LIB, OWNERS, STORE, FETCH)
        lines = [link for link in reversed(links) if is_link(link)]
        if len(lines) != len(links):
            raise DownloadFailed(f"{self._remote.ref.display}: the server gave a link that is none")
        try:
            async with (
                asyncio.timeout(3 * seconds + timeouts.start),
                script.running(self._connection, body, words, payload=True) as running,
            ):
                # Only now: a forced command would have been shown it.
                await running.send("".join(f"{line}\n" for line in lines).encode())
                running.end_payload()
                async for line in running.lines():
                    self._hear(line, answer)
                await running.finish()
        except TimeoutError:
            raise ResponseInvalid(
                f"node {self._connection.name!r}: no sign of life while it fetches {self._remote.name}",
                hint=f"rbee --verbose nodes status {self._connection.name}",
            ) from None
        return answer

    def _hear(self, line: str, answer: _Answer) -> None:
        key, _, rest = line.partition("\t")
        values = rest.split("\t")
        if key == "at" and len(values) == 2:
            answer.done = int(values[0]) if re.fullmatch("[0-9]{1,18}", values[0]) else 0
            answer.state = plain(values[1], 500)
            self._tell(answer)
        elif key == "file" and len(values) >= 3 and all(re.fullmatch("[0-9]{1,18}", v) for v in values[:2]):
            answer.files.append((int(values[0]), int(values[1]), plain("\t".join(values[2:]))))
        elif key == "problem":
            answer.problem = [plain(value) for value in values]
        elif key == "locked":
            answer.locked = plain(rest, 100)
        elif key == "new":
            self.ours = True  # at once: we may be cancelled before the answer ends
        elif key == "unproven" and (unproven := doubt(rest)) is not None:
            answer.unproven.append(unproven)
        elif key == "unverified":
            answer.unverified = True

    def _tell(self, answer: _Answer) -> None:
        word, _, rest = answer.state.partition(" ")
        if not (self.ours or self._joined) and word in ("fetching", "waiting", "verifying"):
            self._joined = True
            self._story.say(f"joining the fetch of {self._remote.name} that runs on {self._connection.name}")
        if answer.state != self._said:
            self._said = answer.state
            if word == "waiting" and rest.count(" ") > 1:
                number, attempt, *why = rest.split(" ")
                self._story.detail(
                    f"{self._connection.name}: file {number}, try {attempt}, after {fetch_failure.why(why)}"
                )
            elif word == "expired":
                self._story.detail(f"{self._connection.name}: the link has expired; asking for another one")
            elif word == "verifying" and answer.done > 2**30:
                self._story.say(f"checking the SHA-256 on {self._connection.name}")  # takes a while
        total = self._remote.size
        if word in ("fetching", "waiting", "verifying", "done"):
            done = answer.done
            if word != "done" and total is not None:
                done = min(done, total - 1)  # the bar ends when the file has its name
            self._story.progress(self._label, done, total)

    def _placed(self, answer: _Answer, *, fresh: bool) -> Fetched:
        if len(answer.files) != len(self._remote.files):
            raise DownloadFailed(
                f"node {self._connection.name!r} does not say where {self._remote.name} is",
                details={"node": self._connection.name},
            )
        if answer.unverified:
            self._story.warn(f"{self._connection.name} has no SHA-256 program: only the size was compared")
        _, mtime, path = answer.files[-1]
        return Fetched(path, sum(size for size, _, _ in answer.files), mtime, fresh=fresh)

    def _path(self) -> str:
        return f"{self._models_dir.rstrip('/')}/{self._remote.files[0].place}"
