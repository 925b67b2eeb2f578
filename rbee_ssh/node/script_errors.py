"""What the scripts of a node say when they could do nothing, as errors."""

from __future__ import annotations

import shlex

from rbee_ssh.errors import DiskFull, NodeLocked, ShellUnusable
from rbee_ssh.node.remedies import state_dir


def unwritable(node: str, problem: str) -> ShellUnusable | DiskFull:
    """No place for a state directory. `problem`: as lib/ words it."""
    if problem.endswith(": its disk is full"):
        return DiskFull(
            f"node {node!r}: {problem}",
            hint=f"rbee nodes run {shlex.quote(node)} -- df -h   # and free some space there",
            details={"node": node},
        )
    if problem.startswith("no place for a socket"):
        return ShellUnusable(
            f"node {node!r}: {problem}",
            hint=f'rbee nodes run {shlex.quote(node)} -- ls -ld /tmp   # drwxrwxrwt? Else: listen = "tcp"',
            details={"node": node},
        )
    return ShellUnusable(f"node {node!r}: {problem}", hint=state_dir(problem), details={"node": node})


def foreign(node: str, path: str) -> ShellUnusable:
    """Nothing is written at `path`: a link leads there, it is somebody else's, or others may write it."""
    return ShellUnusable(
        f"node {node!r}: {path} is not that login's alone (another user's, a link, or writable by others)",
        hint=f"rbee nodes run {shlex.quote(node)} -- ls -ld {shlex.quote(path)}"
        "   # put that right, or set models_dir in the inventory",
        details={"node": node, "path": path},
    )


def locked(node: str, holder: str) -> NodeLocked:
    """Another command has held the lock for more than 10 s. `holder`: its process, as the lock says."""
    return NodeLocked(
        f"node {node!r}: the lock of its workers is held by process {holder}",
        hint="wait for that command to end, or end that process on the node",
        details={"node": node, "holder": holder},
    )
