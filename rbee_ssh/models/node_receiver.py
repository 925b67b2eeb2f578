"""Runs on a node that has python3: appends what comes on standard input to a file, and sums it meanwhile.

    node_receiver.py PART SIZE MARK

Makes MARK, with its pid in it, before the first byte is read; where MARK is there, it does nothing. Once
PART has SIZE bytes, its SHA-256 goes to descriptor 4; until then, when all has come, `summed BYTES` to
descriptor 5, each second in which it got on. Exit statuses: 0 at the end of the input, whole or not, 74 when
PART cannot be written, 1 when it did nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
import threading
import time

PIECE = 1 << 18  # bytes: in the processor's cache from the first of them to the last
SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which Python knows by name since 3.10
TOLD_EACH = 1.0  # seconds


class Sum(threading.Thread):
    """The SHA-256 of the file from its first byte on, behind who writes it: also of what lay there before."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__(daemon=True)
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 # the process ends with it
        self._size = size
        self.done = 0
        self.all_came = False

    def run(self) -> None:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(PIECE))
        while self.done < self._size:
            whole = self.all_came
            count = self._file.readinto(buffer)
            if count:
                digest.update(buffer[:count])
                self.done += count
            elif whole:
                return
            else:
                time.sleep(0.01)
        os.write(4, digest.hexdigest().encode() + b"\n")


def main(path: str, size: int, mark: str) -> int:
    part = os.open(path, os.O_WRONLY | os.O_APPEND)
    summing = Sum(path, size)
    summing.start()
    buffer = memoryview(bytearray(PIECE))
    # All that can fail on a small or odd machine is done.
    with open(mark, "x") as file:
        file.write(str(os.getpid()) + "\n")
    with contextlib.suppress(OSError):
        # As large as the pieces: the other end of the pipe is woken less often.
        fcntl.fcntl(0, SET_PIPE_SIZE, PIECE)
    while True:
        count = os.readv(0, [buffer])
        if not count:
            break
        done = 0
        while done < count:
            try:
                done += os.write(part, buffer[done:count])
            except OSError:
                return 74
    if os.fstat(part).st_size != size:
        return 0  # cut: what would be the sum of a beginning good for?
    summing.all_came = True
    told = 0
    while summing.is_alive():
        summing.join(TOLD_EACH)
        if summing.done > told:
            told = summing.done
            with contextlib.suppress(OSError):
                os.write(5, b"summed\t%d\n" % told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
