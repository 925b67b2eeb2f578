"""Process 1 of a node: prepares it, then collects the dead until its lab lets go.

Run as `python -I init.py SCRIPT` in fresh namespaces. It says its pid as the host counts them, waits for a
line on stdin (the cable is plugged in by then), runs SCRIPT with sh, says how that went, and reaps orphans,
as an init must: a zombie would keep its process group alive in the eyes of `kill -0`. When stdin ends, the
lab is gone: process 1 leaves, and the kernel ends everything else in the node.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys


def main() -> None:
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    # /proc is still the host's here, and counts pids as the host does.
    with open("/proc/self/stat", encoding="ascii", errors="replace") as stat:
        print(stat.read().split()[0], flush=True)
    sys.stdin.readline()
    done = subprocess.run(
        ["/bin/sh", "-e", sys.argv[1]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    words = done.stdout.decode("utf-8", "replace").replace("\n", " | ")
    print("up" if done.returncode == 0 else f"failed: {words}", flush=True)
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 100):
            return
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 1000)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


main()
