"""What became of a worker that does not answer, as an error for the user. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rbee_ssh.engines.exit_status import in_words
from rbee_ssh.errors import (
    EngineBroken,
    ModelInvalid,
    RbeeError,
    WorkerCrashed,
    WorkerStartFailed,
    WorkerStartTimeout,
)
from rbee_ssh.ssh.quote import quote
from rbee_ssh.workers.records import Record

# 126 and 127: the shell could not run the program; 132: it needs instructions this CPU lacks.
_BROKEN = frozenset({126, 127, 132})
_MODEL_LINES = (
    "invalid magic",
    "not a gguf",
    "failed to load model",
    "unknown model architecture",
    "gguf_init",
)
# llama.cpp says "failed to load model" then, too.
_MEMORY_LINES = (
    "out of memory",
    "outofdevicememory",
    "unable to allocate",
    "failed to allocate",
    "cannot allocate memory",
    "bad_alloc",
)


def start_failed(record: Record, node: str, engine: str) -> RbeeError:
    """The engine ended before it was ready."""
    status = record.number("exit")
    ended = in_words(status) if status is not None else "it vanished: killed, or the node was rebooted"
    last = _last(record)
    log = record.text("directory") + "/log"
    details = {
        "node": node,
        "worker": record.id,
        "engine": engine,
        "exit_status": status,
        "log": log,
        "last_lines": last,
    }
    text = f"on node {node!r}, {engine} ended before it was ready: {ended}"
    text += "".join(f"\n  | {line}" for line in last)
    hint = f"rbee workers logs {record.id}"
    if status in _BROKEN:
        return EngineBroken(text, hint=hint, details=details)
    if (
        status not in (134, 137, 139)
        and _any_says(last, _MODEL_LINES)
        and not _any_says(record.log, _MEMORY_LINES)
    ):
        return ModelInvalid(text, hint=hint, details=details)
    return WorkerStartFailed(text, hint=hint, details=details)


def _any_says(lines: Iterable[str], signs: Iterable[str]) -> bool:
    return any(sign in line.lower() for line in lines for sign in signs)


def start_timeout(record: Record, node: str, seconds: float, problem: str) -> RbeeError:
    """It runs, and does not get ready."""
    return WorkerStartTimeout(
        f"on node {node!r}, worker {record.id} {problem} within {seconds:.0f} s; it was stopped"
        + "".join(f"\n  | {line}" for line in _last(record)),
        hint="raise `start` or `load` under [timeouts] of the inventory",
        details={"node": node, "worker": record.id, "seconds": seconds, "state": record.state},
    )


def _last(record: Record) -> list[str]:
    return [line for line in record.log if line.strip()][-8:]


def crashed(
    record: Record | None, node: str, worker_id: str, received: int, wanted: int | None
) -> WorkerCrashed:
    """The stream ended before it was finished."""
    status = record.number("exit") if record else None
    stopped = record is None or record.state in ("stopping", "stopped")
    if record is None or stopped:
        ended = "another command stopped it"
    elif status is not None:
        ended = in_words(status)
    else:
        ended = f"it is {record.state} now"
    of = f" of at most {wanted}" if wanted is not None else ""
    return WorkerCrashed(
        f"the answer of worker {worker_id} on node {node!r} broke off after {received} tokens{of}: {ended}",
        hint="run the command again" if stopped else f"rbee workers logs {quote(worker_id)}",
        details={
            "node": node,
            "worker": worker_id,
            "tokens": received,
            "max_tokens": wanted,
            "exit_status": status,
            "last_lines": list(record.log[-8:]) if record else [],
        },
    )
