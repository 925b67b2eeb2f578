"""`rbee models push` over scp: time in pairs, memory, and what moves again after a cut."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
HEAD = ("", "rbee", "scp", "ratio", "spread", "goal", "met")


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

    def by_scp(self) -> float:
        self.node.exec_local("rm -f copied.gguf")
        ssh = self.node.ssh_argv()
        # The destination is ssh's last word, and scp writes the port with a capital letter.
        options = ["-P" if word == "-p" else word for word in ssh[1:-1]]
        argv = ["scp", "-q", *options, str(self.file), f"{ssh[-1]}:copied.gguf"]
        try:
            return stopwatch.run(argv, None, env=self.control.env).seconds
        finally:
            self.node.exec_local("rm -f copied.gguf")

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
            measured = rounds({"scp": place.by_scp, "rbee": place.by_rbee}, 2 if quick else 5)
            found = ratio(measured, "rbee", "scp")
            row = (
                f"a file of {size / GIB:g} GiB, proven by its SHA-256, over `scp`, which proves nothing",
                f"{median(measured['rbee']):.1f} s",
                f"{median(measured['scp']):.1f} s",
                f"{found.value:.2f}",
                f"{found.low:.2f} – {found.high:.2f}",
                f"≤ {RATIO:g}",
                "✓" if found.value <= RATIO else "✗",
            )
            text.append(report.table(HEAD, [row]))
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


def _resumed(place: Bed, size: int) -> tuple[float, float]:
    """Shares of the file: what moves again after a cut in the middle, and what was there then."""
    place.forget()
    incoming = place.node.outside(f"{STORE}/.incoming")
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
