"""What goes wrong with a node, for a while or for good."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from nodes.serving import engines_on

from nodekit import LabNode
from storm import invariants

# Faults that may end an answer in the middle.
ENDS_ANSWERS = frozenset(
    {"kill engine", "segv engine", "term engine", "kill supervisor", "stop engine", "reboot"}
)


class Faults:
    """Faults of one node, one after the other. `log` holds (kind, began, ended), monotonic seconds."""

    def __init__(self, node: LabNode, chance: random.Random, over: threading.Event) -> None:
        self.node, self._chance, self._over = node, chance, over
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
            "kill supervisor": self._supervisor,
            "reboot": self._reboot,
        }

    def run(self) -> None:
        """Until it is over; everything is mended then."""
        while not self._over.wait(self._chance.uniform(2, 9)):
            kind = self._chance.choice(list(self._kinds))
            began = time.monotonic()
            self.log.append((kind, began, float("inf")))
            self._kinds[kind]()
            self.log[-1] = (kind, began, time.monotonic())

    @property
    def counts(self) -> Counter[str]:
        return Counter(kind for kind, *_ in self.log)

    def ended_answers(self, began: float, ended: float) -> bool:
        """Whether a fault in this time explains an answer that broke off."""
        return any(kind in ENDS_ANSWERS and a <= ended and b >= began - 1 for kind, a, b in self.log)

    def look(self) -> list[list[str]]:
        """What is on the node, as invariants.look tells it."""
        with self._on:
            return invariants.look(self.node)

    def _reboot(self) -> None:
        with self._on:
            self.node.reboot()

    def _while(self, undo: Callable[[], None]) -> None:
        self._over.wait(self._chance.uniform(1, 8))
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

    def _supervisor(self) -> None:
        found = [p.pid for p in self.node.processes() if any("supervise.sh" in word for word in p.argv)]
        for pid in found[:1]:
            self._kill("KILL", pid)

    def _kill(self, name: str, pid: int) -> None:
        self.node.exec_local(f"kill -{name} {pid}", check=False)  # it may have ended by itself
