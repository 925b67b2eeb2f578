"""The run: nodes, threads, looks, counts."""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
from collections import Counter

from nodekit import Control, LabNode, NodeLab
from nodekit.engines import Engines, visible_directories
from storm import commands, invariants
from storm.commands import Ran
from storm.faults import Faults

LOOK_SECONDS = 10.0
USERS = 2  # processes at a time, of each control machine


def main() -> int:
    words = argparse.ArgumentParser(prog="scripts/chaos")
    words.add_argument("--minutes", type=float, default=5.0)
    words.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    given = words.parse_args()
    print(f"seed {given.seed}, {given.minutes:g} minutes", flush=True)
    engines = Engines(dict(os.environ))
    with NodeLab(visible=visible_directories()) as lab:
        nodes = [
            lab.node(name, shell=shell)
            for name, shell in (("a", "/bin/dash"), ("b", "/bin/bash"), ("c", "/bin/zsh"))
        ]
        controls = [lab.control("desk"), lab.control("laptop")]
        for control in controls:
            keys = engines.inventory_keys("xllamacpp")
            control.inventory(*nodes, every=keys, text=commands.INVENTORY)
        return Storm(given.seed, nodes, controls, engines).run(given.minutes * 60)


class Storm:
    """One run. `violations` is what should never have been seen."""

    def __init__(self, seed: int, nodes: list[LabNode], controls: list[Control], engines: Engines) -> None:
        self.seed, self.nodes, self.controls, self.engines = seed, nodes, controls, engines
        self.over = threading.Event()
        self.calm = threading.Event()
        self.violations: list[str] = []
        self.ran: list[Ran] = []
        self.looks = 0
        self.faults = [Faults(node, random.Random(f"{seed} {node.name}"), self.calm) for node in nodes]

    def run(self, seconds: float) -> int:
        threads = [threading.Thread(target=self._guarded, args=(fault.run,)) for fault in self.faults]
        for number, control in enumerate(self.controls * USERS):
            chance = random.Random(f"{self.seed} user {number}")
            threads.append(threading.Thread(target=self._guarded, args=(self._use, control, chance)))
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        before: dict[str, set[str]] = {}
        while time.monotonic() < end and not self.calm.wait(
            min(LOOK_SECONDS, max(end - time.monotonic(), 0))
        ):
            before = self._look(before)
        self.calm.set()
        self.over.set()
        for thread in threads:
            thread.join()
        self._judge()
        self._end()
        return self._report()

    def _guarded(self, work: object, *args: object) -> None:
        try:
            work(*args)  # type: ignore[operator]
        except BaseException as error:
            self.violations.append(f"the storm itself: {type(error).__name__}: {error}")
            self.calm.set()
            self.over.set()

    def _use(self, control: Control, chance: random.Random) -> None:
        names = [node.name for node in self.nodes]
        while not self.over.is_set():
            kind, words = commands.choose(chance, names, self.engines.model)
            self.ran.append(commands.run(control, kind, words))
            self.over.wait(chance.uniform(0, 0.5))

    def _look(self, before: dict[str, set[str]]) -> dict[str, set[str]]:
        """What is wrong twice in a row was no passing state."""
        now: dict[str, set[str]] = {}
        for fault in self.faults:
            node, seen = fault.node, fault.look()
            doubles = invariants.twice(seen)
            if doubles:
                time.sleep(1)
                doubles &= invariants.twice(fault.look())
            self.violations += [f"{node.name}: two workers for {match}" for match in doubles]
            now[node.name] = invariants.strays(seen)
            lasting = now[node.name] & before.get(node.name, set())
            self.violations += [f"{node.name}: engine {stray} without a worker" for stray in lasting]
        for control in self.controls:
            if broken := invariants.registry_fault(control):
                self.violations.append(f"registry: {broken}")
        self.looks += 1
        return now

    def _judge(self) -> None:
        """The commands, now that it is known what happened meanwhile."""
        by_name = {fault.node.name: fault for fault in self.faults}
        stops = [ran for ran in self.ran if ran.kind in (commands.STOP, commands.NOW)]
        for ran in self.ran:
            fault = commands.wrong(ran)
            if fault is None and ran.code == "WORKER_CRASHED" and ran.node is not None:
                stopped = any(stop.began <= ran.ended and stop.ended >= ran.began for stop in stops)
                if not stopped and not by_name[ran.node].ended_answers(ran.began, ran.ended):
                    fault = "an answer broke off, and nothing had happened to its worker"
            if fault is not None:
                said = " ".join((ran.out[-600:] + ran.err[-600:]).split())
                self.violations.append(f"{fault}: rbee {' '.join(ran.words)}: {said}")

    def _end(self) -> None:
        """After the storm: one look sees everything as it is, one stop ends everything."""
        for control in self.controls:
            listed = commands.run(control, commands.LIST, ["--json", "workers", "list"])
            if listed.status != 0:
                self.violations.append(f"workers list after the storm: {listed.out} {listed.err}")
        for words in (
            ["workers", "stop", "--all", "--any-owner", "--now"],
            ["cleanup", "--idle", "0s", "--any-owner"],
        ):
            done = commands.run(self.controls[0], commands.NOW, ["--json", *words])
            if done.status != 0:
                self.violations.append(f"rbee {' '.join(words)} after the storm: {done.out} {done.err}")
        for node in self.nodes:
            self.violations += [
                f"{node.name}: left: {what}" for what in invariants.remains(invariants.look(node))
            ]
        for control in self.controls:
            self.violations += [f"left: {path}" for path in invariants.left_here(control)]

    def _report(self) -> int:
        kinds = Counter(ran.kind for ran in self.ran)
        ends = Counter(ran.code for ran in self.ran)
        faults = sum((fault.counts for fault in self.faults), Counter[str]())
        for title, counts in (("commands", kinds), ("ends", ends), ("faults", faults)):
            told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            print(f"{title}: {counts.total()} ({told})")
        for violation in self.violations:
            print(f"violation: {violation}")
        print(f"seed {self.seed}: {self.looks} looks, {len(self.violations)} violations")
        return 1 if self.violations else 0


sys.exit(main())
