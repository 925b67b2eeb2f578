"""`rbee models push` and other ways over scp: time in pairs, memory, and what moves again after a cut."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benches import report, stopwatch
from benches.rounds import ratio, rounds
from nodekit import Control, LabNode, NodeLab
from nodekit.control import rbee_path

TITLE = "rbee models push over scp"
PARTS = ("time", "memory", "resume")
GIB = 2**30
RATIO, PEAK, AGAIN = 1.1, 100e6, 0.6
STORE = ".local/share/rbee/models"
SFTP = Path(__file__).with_name("sftp.py")
RBEE, SCP = "`rbee models push`, with its SHA-256", "scp"
COPY = "copied.gguf"
HEAD = ("", "seconds", "over `scp`", "spread", "goal", "met")


@dataclass
class Bed:
    """A node, a control machine, and a large file there."""

    node: LabNode
    control: Control
    file: Path

    def push(self) -> list[str]:
        return [rbee_path(), "-q", "models", "push", str(self.file), "--node", self.node.name]

    def by_rbee(self) -> float:
        """A push as a user makes it the first time: nobody has summed the file."""
        self.forget()
        return stopwatch.run(self.push(), None, env=self.control.env, cwd=self.control.work).seconds

    def by_scp(self, *options: str) -> float:
        ssh = self.node.ssh_argv(*options)
        # The destination is ssh's last word, and scp writes the port with a capital letter.
        words = ["-P" if word == "-p" else word for word in ssh[1:-1]]
        return self._copied(["scp", "-q", *words, str(self.file), f"{ssh[-1]}:{COPY}"])

    def by_rsync(self) -> float:
        *ssh, destination = self.node.ssh_argv("-c", "aes128-gcm@openssh.com")
        return self._copied(["rsync", "-W", "-e", shlex.join(ssh), str(self.file), f"{destination}:{COPY}"])

    def by_sftp(self) -> float:
        given = {
            "host": self.node.address,
            "port": self.node.port,
            "username": self.node.user,
            "client_key": str(self.node.key),
            "known_hosts": str(self.control.known_hosts),
            "source": str(self.file),
            "target": COPY,
        }
        return self._copied([sys.executable, str(SFTP)], json.dumps(given))

    def _copied(self, argv: Sequence[str], input: str = "") -> float:
        try:
            return stopwatch.run(argv, None, env=self.control.env, input=input).seconds
        finally:
            self.node.exec_local(f"rm -f {COPY}")

    def forget(self) -> None:
        self.node.exec_local(f"rm -rf {STORE}")
        (self.control.home / ".local/state/rbee/registry.json").unlink(missing_ok=True)

    def received(self) -> int:
        """Bytes that have come to the node over its cable."""
        # Not from /sys, which shows the network of whoever mounted it.
        return int(self.node.exec_local("awk '/eth0:/ { print $2 }' /proc/net/dev").stdout)


def measure(*, quick: bool, parts: Sequence[str]) -> str:
    """The benchmark's section of docs/benchmarks.md.

    Args:
        quick: a quarter of the file, and two pairs.
        parts: of PARTS, those to measure; all when empty.
    """
    wanted = parts or PARTS
    size = GIB // 2 if quick else 2 * GIB
    text = [f"## {TITLE}", report.machine()]
    with bed(size) as place:
        if "time" in wanted:
            text += [
                f"A file of {size / GIB:g} GiB. Only rbee proves what has arrived.",
                _times(place, quick),
            ]
        if "memory" in wanted:
            place.forget()
            peak = stopwatch.peak_bytes(place.push(), env=place.control.env, cwd=place.control.work)
            mark = "✓" if peak <= PEAK else "✗"
            text.append(f"Peak memory of the push: {peak / 1e6:.1f} MB (goal ≤ {PEAK / 1e6:.0f} MB) {mark}")
        if "resume" in wanted:
            share, before = _resumed(place, size)
            mark = "✓" if share <= AGAIN else "✗"
            text.append(
                f"Killed when {before:.0%} were there, and run again: {share:.0%} of the file's bytes moved "
                f"(goal ≤ {AGAIN:.0%}) {mark}"
            )
    return "\n\n".join(text)


def _times(place: Bed, quick: bool) -> str:
    """The table of what each way takes."""
    ways: dict[str, Callable[[], float]] = {
        SCP: place.by_scp,
        RBEE: place.by_rbee,
        "`scp -c aes128-gcm@openssh.com`": lambda: place.by_scp("-c", "aes128-gcm@openssh.com"),
        "asyncssh's SFTP, 64 × 128 KiB in flight, aes128-gcm": place.by_sftp,
    }
    if shutil.which("rsync"):
        ways["`rsync -W` through `ssh -c aes128-gcm@openssh.com`"] = place.by_rsync
    measured = rounds(ways, 2 if quick else 5)
    rows = []
    for way in ways:
        found = ratio(measured, way, SCP)
        goal = (f"≤ {RATIO:g}", "✓" if found.value <= RATIO else "✗") if way == RBEE else ("", "")
        cells = (f"{found.value:.2f}", f"{found.low:.2f} – {found.high:.2f}") if way != SCP else ("", "")
        rows.append((way, f"{median(measured[way]):.1f}", *cells, *goal))
    return report.table(HEAD, rows)


def _resumed(place: Bed, size: int) -> tuple[float, float]:
    """Shares of the file: what moves again after a cut in the middle, and what was there then."""
    place.forget()
    incoming = place.node.outside(f"{STORE}/.incoming-{place.node.uid}")
    with subprocess.Popen(
        place.push(), env=place.control.env, cwd=place.control.work, stdout=subprocess.DEVNULL
    ) as cut:
        while cut.poll() is None and not any(p.stat().st_size >= size // 2 for p in incoming.glob("*.part")):
            time.sleep(0.005)
        cut.kill()
    (part,) = incoming.glob("*.part")
    before = part.stat().st_size
    came = place.received()
    place.control.rbee(*place.push()[1:], timeout=300, check=True)
    return (place.received() - came) / size, before / size


@contextmanager
def bed(size: int) -> Iterator[Bed]:
    """A node with dash as the login shell, and a control machine with a file of random bytes."""
    with NodeLab() as lab:
        node, control = lab.node("node", shell="/bin/dash"), lab.control("desk")
        control.inventory(node)
        file = control.work / "large.gguf"
        with file.open("wb") as out:
            out.write(b"GGUF")
            written = 4
            while written < size:
                written += out.write(os.urandom(min(2**24, size - written)))
        print(f"{size / GIB:g} GiB written", file=sys.stderr)
        yield Bed(node, control, file)
