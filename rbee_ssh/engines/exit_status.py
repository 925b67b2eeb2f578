"""What an exit status says, for people."""

from __future__ import annotations

_WORDS = {
    126: "found but cannot be executed: no permission, or built for another kind of machine",
    127: "not found, or a shared library that it needs is missing",
    129: "hung up (SIGHUP): the session it belonged to ended",
    130: "interrupted (SIGINT)",
    131: "quit (SIGQUIT)",
    132: "illegal instruction (SIGILL): this build needs CPU features the node lacks",
    133: "trapped (SIGTRAP)",
    134: "aborted (SIGABRT): it gave up by itself, its last lines say why",
    135: "bus error (SIGBUS): often a model file that was cut short while it was mapped",
    136: "arithmetic fault (SIGFPE)",
    137: "killed (SIGKILL): often the kernel's OOM killer, when memory runs out",
    139: "segmentation fault (SIGSEGV)",
    141: "broken pipe (SIGPIPE)",
    143: "terminated (SIGTERM)",
    152: "CPU time limit exceeded (SIGXCPU)",
    153: "file size limit exceeded (SIGXFSZ)",
    159: "bad system call (SIGSYS): a sandbox forbids what it needs",
}


def in_words(status: int) -> str:
    """`137` → "exit status 137, killed (SIGKILL): often …". A shell's status: 128 + N for signal N.

    A negative status is Python's way to say the same, and is read so.
    """
    if status < 0:
        status = 128 - status
    if status in _WORDS:
        return f"exit status {status}, {_WORDS[status]}"
    if 128 < status < 128 + 65:
        return f"exit status {status}, ended by signal {status - 128}"
    return f"exit status {status}"
