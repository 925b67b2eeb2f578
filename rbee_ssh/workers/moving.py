"""Whether a worker did anything between two looks at it. Pure."""

from __future__ import annotations

from rbee_ssh.workers.records import Record

MIB = 2**20


def moved(before: Record, after: Record, *, seconds: float, share: float) -> bool:
    """Whether it computed, wrote into its log, or filled memory.

    Args:
        seconds: between the two looks. Its supervisor counts CPU time every 5 s: less shows nothing.
        share: of one CPU, which it takes though it gets nowhere: to answer whether it is ready, say.
    """
    spent = (after.number("cpu") or 0) - (before.number("cpu") or 0)  # hundredths of a second
    return (
        spent > share * seconds * 100
        or after.text("log-size") != before.text("log-size")
        or _memory(after) - _memory(before) >= MIB
    )


def _memory(record: Record) -> int:
    own, files, _ = record.memory
    return own + files
