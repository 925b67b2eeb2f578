"""The tunnel's local port in a process of its own, with the files and the memory that it may have."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from unit.workers.test_proxy import KEY, SHOWN, ask, crowd

# A tunnel in a process of its own, with so many files allowed; it says its port, and in the end its memory.
TUNNEL = """
import asyncio, contextlib, resource, sys
from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.workers.proxy import served

files = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

@contextlib.asynccontextmanager
async def way():
    raise NodeUnreachable("the key was shown")
    yield

async def work():
    async with served(way, sys.argv[2], 0) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(work())
"""


@dataclass
class Flooded:
    port: int
    begin: int = 0  # KiB
    end: int = 0
    stderr: str = ""


@contextlib.contextmanager
def in_a_process(files: int) -> Iterator[Flooded]:
    process = subprocess.Popen(
        [sys.executable, "-c", TUNNEL, str(files), KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    flooded = Flooded(int(process.stdout.readline()))
    try:
        yield flooded
        said, flooded.stderr = process.communicate("", timeout=30)
        flooded.end = int(said)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000], ids=["silent", "heads"])
@pytest.mark.parametrize("files", [64, 1024])
def test_who_shows_no_key_takes_little(files: int, start: bytes) -> None:
    with in_a_process(files) as quiet:
        pass
    with in_a_process(files) as flooded:
        others = crowd(flooded.port, 1200, start)
        began = time.monotonic()
        answer = asyncio.run(ask(flooded.port, f"GET / HTTP/1.1\r\n{SHOWN}\r\n"))
        seconds = time.monotonic() - began
        for one in others:
            one.close()
    assert b"the key was shown" in answer
    assert seconds < 2
    assert flooded.stderr == ""
    assert flooded.end - quiet.end < 25 * 1024, "KiB"
