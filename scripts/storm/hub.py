"""The storm's models: a small hub with three of them, downloads that go wrong, and one to push."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter

from hubkit import Fault, Hub

SIZE = 3 * 2**19  # of the smallest model; each of the others is half as much larger
OWN = "tiny-own.gguf"
OWN_SIZE = 24 * 2**20  # takes long enough for something to happen to it
KINDS = ("cut", "reset", "stall", "500", "expire", "wrong")


class Downloads:
    """The hub, and what it does to downloads until it is over. A context manager, as the hub is."""

    def __init__(self, address: str, chance: random.Random, over: threading.Event) -> None:
        self._chance, self._over = chance, over
        self.counts: Counter[str] = Counter()
        self.hub = Hub(address)
        self.hub.rate = 2**20
        self.known: dict[str, str] = {}  # file name → SHA-256
        for number in (1, 2, 3):
            name = f"tiny-{number}.gguf"
            content = b"GGUF" + random.Random(number).randbytes(SIZE * (number + 1) // 2)
            self.hub.add(f"org/tiny-{number}", {name: content})
            self.known[name] = hashlib.sha256(content).hexdigest()

        self.own = b"GGUF" + random.Random(0).randbytes(OWN_SIZE)
        self.known[OWN] = hashlib.sha256(self.own).hexdigest()

    @property
    def references(self) -> list[str]:
        return [f"hf:{name}" for name in self.hub.repositories]

    def run(self) -> None:
        """A fault for the next download that begins, now and then; none is left when it is over."""
        while not self._over.wait(self._chance.uniform(0.5, 4)):
            fault = Fault(self._chance.choice(KINDS), self._chance.randrange(SIZE))
            with self.hub.lock:
                waiting = bool(self.hub.faults)
                if not waiting:
                    self.hub.faults.append(fault)
            if not waiting:
                self.counts[f"download {fault.what}"] += 1
        with self.hub.lock:
            self.hub.faults.clear()
