"""What goes wrong with a node, for a while or for good."""

from __future__ import annotations

import random
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from nodes.serving import engines_on

from nodekit import LabNode
from nodekit.node import NodeProcess
from storm import look

# Faults that may end an answer in the middle.
ENDS_ANSWERS = frozenset(
    {"kill engine", "segv engine", "term engine", "kill supervisor", "stop engine", "reboot"}
)
NETWORK = frozenset({"silence", "unplug", "reset", "kill sshd", "reboot"})
# What each error of a node is a sign of. One without such a fault is remarked, not judged: a busy machine can
# be too slow for the patience of commands.INVENTORY.
SIGNS = {
    "CONNECTION_LOST": NETWORK | {"kill transfer"},
    "NODE_UNREACHABLE": NETWORK,
    "SESSION_LIMIT": NETWORK,
    "WORKER_STALLED": ENDS_ANSWERS | NETWORK,
    "WORKER_START_FAILED": ENDS_ANSWERS | {"no engine"},
    "WORKER_START_TIMEOUT": ENDS_ANSWERS | {"no engine"},
    "ENGINE_MISSING": frozenset({"no engine"}),
    "ENGINE_BROKEN": frozenset({"no engine"}),
    "DISK_SHORT": frozenset({"full disk"}),
    "DISK_FULL": frozenset({"full disk"}),
}


class Faults:
    """Faults of one node, one after the other. `log` holds (kind, began, ended), monotonic seconds.

    Args:
        engine: the directory that its engine lives in, which can be taken away.
        over: when it is set, everything is mended.
    """

    def __init__(self, node: LabNode, engine: Path, chance: random.Random, over: threading.Event) -> None:
        self.node, self._engine, self._chance, self._over = node, engine, chance, over
        self.log: list[tuple[str, float, float]] = []
        self._on = threading.Lock()  # held by whoever needs the node switched on, or switches it
        self._kinds: dict[str, Callable[[], None]] = {
            "silence": self._silence,
            "unplug": self._unplug,
            "reset": node.reset_connections,
            "kill sshd": self._sshd,
            "kill engine": lambda: self._signal("KILL"),
            "segv engine": lambda: self._signal("SEGV"),
            "term engine": lambda: self._signal("TERM"),
            "stop engine": self._suspend,
            "kill supervisor": lambda: self._kill_one(lambda one: _named(one, "supervise.sh")),
            "kill download": lambda: self._kill_one(lambda one: _named(one, "job.sh") or one.name == "curl"),
            "kill transfer": self._transfer,
            "no engine": self._without_engine,
            "full disk": self._fill,
            "reboot": self._reboot,
        }

    def run(self) -> None:
        """Until it is over."""
        while not self._over.wait(self._chance.uniform(3, 14)):
            kind, self._seconds = self._chance.choice(list(self._kinds)), self._chance.uniform(1, 8)
            began = time.monotonic()
            self.log.append((kind, began, float("inf")))
            self._kinds[kind]()
            self.log[-1] = (kind, began, time.monotonic())

    @property
    def counts(self) -> Counter[str]:
        return Counter(kind for kind, *_ in self.log)

    def during(self, began: float, ended: float) -> list[str]:
        """What was wrong with the node in this time."""
        return [kind for kind, a, b in self.log if a <= ended and b >= began - 1]

    def look(self) -> look.Look:
        with self._on:
            return look.look(self.node)

    def _reboot(self) -> None:
        with self._on:
            self.node.reboot()

    def _while(self, undo: Callable[[], None]) -> None:
        self._over.wait(self._seconds)
        undo()

    def _silence(self) -> None:
        self.node.cut()
        self._while(self.node.mend)

    def _unplug(self) -> None:
        self.node.unplug()
        self._while(self.node.plug)

    def _sshd(self) -> None:
        self.node.kill_sshd()
        self._while(self.node.start_sshd)

    def _signal(self, name: str) -> None:
        for pid in engines_on(self.node)[:1]:
            self._kill(name, pid)

    def _suspend(self) -> None:
        pids = engines_on(self.node)[:1]
        for pid in pids:
            self._kill("STOP", pid)

        def resume() -> None:
            for pid in pids:
                self._kill("CONT", pid)

        self._while(resume)

    def _kill_one(self, meant: Callable[[NodeProcess], bool]) -> None:
        for process in [one for one in self.node.processes() if meant(one)][:1]:
            self._kill("KILL", process.pid)

    def _transfer(self) -> None:
        """What takes in a file, as soon as there is one: it does so for a moment only."""
        end = time.monotonic() + self._seconds
        while time.monotonic() < end and not self._over.is_set():
            for process in self.node.processes():
                if any(word.endswith(".part.taken") for word in process.argv):
                    return self._kill("KILL", process.pid)
            self._over.wait(0.2)

    def _kill(self, name: str, pid: int) -> None:
        self.node.exec_local(f"kill -{name} {pid}", check=False)  # it may have ended by itself

    def _without_engine(self) -> None:
        """Its directory is empty. What runs goes on."""
        place = shlex.quote(str(self._engine))
        self.node.exec_local(f"mount -t tmpfs -o size=4k,mode=755 tmpfs {place}", user="root")
        self._while(lambda: self._give_back(place))

    def _give_back(self, place: str) -> None:
        self.node.exec_local(f"umount -l {place}", user="root")

    def _fill(self) -> None:
        """As another program would."""
        filler = f"{look.MODELS}/other"
        self.node.exec_local(f"dd if=/dev/zero of={filler} bs=64k", check=False)
        self._while(lambda: self._free(filler))

    def _free(self, filler: str) -> None:
        self.node.exec_local(f"rm -f {filler}")


def _named(process: NodeProcess, script: str) -> bool:
    return any(word.endswith(f"/{script}") for word in process.argv)
