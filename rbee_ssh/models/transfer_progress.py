"""Bytes moved to several nodes at once, as one line of progress."""

from __future__ import annotations

from rbee_ssh.reporter import Reporter


class TransferProgress:
    """Counts what each node has of each file.

    Args:
        label: what the line says.
        share: bytes that each node gets.
        nodes: how many nodes there are.
    """

    def __init__(self, reporter: Reporter, label: str, share: int, nodes: int = 1) -> None:
        self._story = reporter
        self._label = label
        self._share = share
        self._nodes = nodes
        self._done: dict[tuple[str, str], int] = {}

    def count(self, node: str, file: str, done: int) -> None:
        """Node `node` has `done` bytes of `file`."""
        self._done[node, file] = done
        self._story.progress(self._label, sum(self._done.values()), self._share * self._nodes)

    def leave(self, node: str) -> None:
        """Nothing more comes to this node."""
        self._nodes -= 1
        self._done = {key: done for key, done in self._done.items() if key[0] != node}
