"""Files of a store that other users of the node could change: read there, and known from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rbee_ssh.errors import ResponseInvalid, ShellUnusable
from rbee_ssh.node import refusals
from rbee_ssh.node.scripts import LIB, OWNERS, compose
from rbee_ssh.node.text import plain
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.story import Story

STORE = Path(__file__).with_name("store.sh")
PROVE = Path(__file__).with_name("prove.sh")
SUM_SECONDS = 3600.0  # for the sum of a file


@dataclass(slots=True)
class Prover:
    """What one command has had proven in the store of one node."""

    connection: Connection
    models_dir: str
    story: Story
    seen: set[str] = field(default_factory=set)

    async def prove(self, unproven: Sequence[tuple[str, str]]) -> None:
        """Have the node read these files and remember what they are. Told in one warning.

        Args:
            unproven: the SHA-256 that is wanted, and the absolute path.

        Raises:
            ShellUnusable: a file changes each time, or the node cannot sum or remember.
            ResponseInvalid: it says nothing for an hour.
            ConnectionLost, NodeFault: the way there.
        """
        node = self.connection.name
        for _, path in unproven:
            if path in self.seen:
                raise refusals.foreign(node, path)
        if not self.seen:
            first = unproven[0][1].rpartition("/")[2]
            more = f" and {len(unproven) - 1} more" if len(unproven) > 1 else ""
            self.story.warn(
                f"others than this login may write in {self.models_dir} on {node}: {first}{more} is read "
                "there and compared with its SHA-256 before it is used"
            )
        self.seen |= {path for _, path in unproven}
        args = [self.models_dir, *(word for pair in unproven for word in pair)]
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(SUM_SECONDS) as limit,
                script.running(self.connection, compose(LIB, OWNERS, STORE, PROVE), args) as running,
            ):
                async for line in running.lines():
                    limit.reschedule(loop.time() + SUM_SECONDS)
                    self._hear(line)
                await running.finish()
        except TimeoutError:
            raise ResponseInvalid(
                f"node {node!r}: nothing came for {SUM_SECONDS:.0f} s while it read {unproven[0][1]}",
                hint=f"rbee --verbose nodes status {node}",
            ) from None

    def _hear(self, line: str) -> None:
        node = self.connection.name
        word, _, rest = line.partition("\t")
        path = plain(rest)
        if word == "problem":
            raise ShellUnusable(
                f"node {node!r} cannot prove what lies in {self.models_dir}: {path}",
                hint=f"set models_dir for {node} in the inventory to a directory of that login's",
                details={"node": node},
            )
        if word == "differs":
            self.story.warn(f"{path} on {node} is not the file that it should be: it is not used")
        elif word == "changes":
            raise refusals.foreign(node, path)


def doubt(value: str) -> tuple[str, str] | None:
    """What a script said behind `unproven`: the SHA-256 and the path; None when it is no such thing."""
    sha256, _, path = value.partition("\t")
    path = plain(path)
    return (sha256, path) if len(sha256) == 64 and path.startswith("/") else None
