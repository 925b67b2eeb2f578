"""How a fetch on a node ended, as an error. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rbee_ssh.errors import (
    ChecksumMismatch,
    DiskFull,
    DiskShort,
    DownloadFailed,
    ModelFault,
    ModelForbidden,
    ModelInvalid,
    ModelNotFound,
    ShellUnusable,
)
from rbee_ssh.models.receiver import taken
from rbee_ssh.models.remote import Remote
from rbee_ssh.node import script_errors
from rbee_ssh.ssh.quote import quote

MIB = 2**20
THIS_MACHINE = "this machine"  # the name of the node that fetches for others


def complain(node: str, remote: Remote, problem: Sequence[str], locked: str) -> None:
    """Raise what stood in fetch.sh's way: `problem` is its line, `locked` who holds the node's lock.

    Raises:
        DiskShort: the files do not fit, with 64 MiB to spare.
        ShellUnusable: a directory cannot be written.
        NodeLocked: for more than 10 s.
    """
    if locked:
        raise script_errors.locked(node, locked)
    if not problem:
        return
    if problem[0] == "short" and len(problem) > 2:
        need, free = (int(v) if re.fullmatch("[0-9]{1,18}", v) else 0 for v in problem[1:3])
        raise DiskShort(
            f"{_who(node)} has {free // MIB} MiB free for models; {remote.name} needs {need // MIB} MiB "
            "more, and 64 MiB to spare",
            hint=_space(node),
            details={"node": node, "need_bytes": need, "free_bytes": free},
        )
    if problem[0] == "foreign":
        raise script_errors.foreign(node, problem[-1])
    if problem[0] != "directory":
        raise script_errors.unwritable(node, problem[0])
    path = problem[-1]
    raise ShellUnusable(
        f"{_who(node)}: {path} cannot be written",
        hint="make it yours, or push the file from where it is"
        if node == THIS_MACHINE
        else f"set models_dir for {node} in the inventory to a directory of that login's",
        details={"node": node, "path": path},
    )


def _who(node: str) -> str:
    return node if node == THIS_MACHINE else f"node {node!r}"


def _space(node: str) -> str:
    if node == THIS_MACHINE:
        return "free some space in the home directory of this machine"
    return f"rbee models prune --older-than 30d --node {node}   # or set models_dir in the inventory"


def ended(node: str, remote: Remote, state: str, done: int, tries: int) -> ModelFault:
    """The error for the last state of fetch_job.sh.

    Args:
        state: "failed WORD …", or "gone".
        done: bytes that are on the node.
        tries: how many there were.
    """
    display, total = remote.ref.display, remote.size
    words = state.removeprefix("failed ").split(" ")
    word, rest = words[0], [*words[1:], "", ""]
    details = {"node": node, "reference": display, "done_bytes": done, "size": total, "state": state}
    here, who = node == THIS_MACHINE, _who(node)
    again = f"rbee models pull {quote(display)} --node {quote(node)}"
    via_here = None if here else f"{again} --via here"
    if word == "full":
        return DiskFull(
            f"{who}: the disk filled while {remote.name} was fetched; the partial file was removed",
            hint=_space(node),
            details=details,
        )
    if word == "mismatch":
        return ChecksumMismatch(
            f"{who}: what came of {display} is not that file, twice; it was removed",
            hint="is something on the way, a proxy perhaps, changing it?"
            if here
            else f"{via_here}   # is something on the node's way changing it?",
            details=details | {"expected": remote.files[0].sha256, "got_bytes": rest[0], "got": rest[1]},
        )
    if word == "other":
        return taken(node, remote.files[0].place, remote.files[0].sha256)
    if word == "missing":
        return ModelNotFound(f"{display}: the server has no such file (404)", details=details)
    if word == "refused":
        return ModelForbidden(
            f"{display}: the server refuses the file to {who} ({rest[0]})",
            hint=via_here,
            details=details,
        )
    if word == "gguf":
        return ModelInvalid(
            f"{display} is not a GGUF file",
            hint="llama.cpp serves models in the GGUF format only",
            details=details,
        )
    if word == "tool":
        return DownloadFailed(
            f"{who} has neither curl nor GNU wget nor python3 to fetch with",
            hint=via_here or "install curl",
            details=details,
        )
    of_all = "" if total is None else f" of {total / MIB:.1f}"
    known = {
        "gone": "the process that fetched is gone",
        "stopped": "somebody stopped it",
        "expired": "the link expired while nobody watched",
        "directory": "its directory cannot be written any more",
    }
    return DownloadFailed(
        f"{who}: fetching {display} failed at {done / MIB:.1f}{of_all} MiB: "
        + (known.get(word) or f"{tries} tries brought nothing, the last: {why(rest)}"),
        hint="run the command again: it resumes; does this machine get through, or need a proxy?"
        if here
        else f"{again}   # resumes there; --via here if the node does not get through",
        details=details,
    )


# Of curl, by its number (curl(1), EXIT CODES); node_downloader.py uses the same.
_CURL = {
    "5": "its proxy's name is not known",
    "6": "the server's name is not known",
    "7": "no connection to the server",
    "18": "the transfer broke off",
    "28": "no byte came for too long",
    "33": "the server does not continue where it stopped",
    "35": "no TLS connection",
    "47": "too many redirects, or one that is not allowed",
    "52": "an empty answer",
    "56": "the connection broke",
    "60": "its certificate is not trusted",
}


def why(words: Sequence[str]) -> str:
    """What a tool's exit status and the HTTP status mean: TOOL STATUS CODE."""
    tool, status, code = [*words, "", "", ""][:3]
    if re.fullmatch("[45][0-9]{2}", code):
        return f"HTTP {code}"
    known = _CURL.get(status) if tool != "wget" else "the connection failed" if status == "4" else None
    return known or f"{tool} ended with {status}".strip()
