"""The run: threads, then the judgement, the end of everything, and the counts."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekit import Control, LabNode
from nodekit.claims import runs_for
from storm import commands, invariants
from storm.audit import LIST, Audit
from storm.commands import Choice, Ran
from storm.faults import ENDS_ANSWERS, SIGNS, Faults
from storm.hub import OWN, Downloads

USERS = 2  # processes at a time, of each control machine
DRAIN = (
    25.0  # seconds that an answer has at least when its worker is stopped: [timeouts] drain, and some doubt
)
OOM = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and the directory that its engine lives in."""

    node: LabNode
    engine: Path


class Storm:
    """One run. `violations` is what should never have been seen."""

    def __init__(
        self, seed: int, places: Sequence[Place], controls: Sequence[Control], model: Path, address: str
    ) -> None:
        self.seed, self.controls, self.model = seed, controls, model
        self.over = threading.Event()
        self.violations: list[str] = []
        self.ran: list[Ran] = []
        self.downloads = Downloads(address, random.Random(f"{seed} hub"), self.over)
        self.faults = [
            Faults(place.node, place.engine, random.Random(f"{seed} {place.node.name}"), self.over)
            for place in places
        ]
        self.audit = Audit(self.faults, controls, self.downloads.known, self.violations, self.over)
        for control in controls:
            control.env["HF_ENDPOINT"] = self.downloads.hub.endpoint
            control.env["TMPDIR"] = str(control.home / "tmp")
            (control.home / "tmp").mkdir()
            (control.work / OWN).write_bytes(self.downloads.own)

    def run(self, seconds: float) -> int:
        killed = _oom_kills()
        work: list[Callable[[], None]] = [fault.run for fault in self.faults]
        work += [self.downloads.run, self.audit.watch, self.audit.ask]
        for number, control in enumerate([*self.controls] * USERS):
            work.append(self._user(control, random.Random(f"{self.seed} user {number}")))
        with self.downloads.hub:
            threads = [threading.Thread(target=self._guarded, args=(one,)) for one in work]
            for thread in threads:
                thread.start()
            self.over.wait(seconds)
            self.over.set()
            for thread in threads:
                thread.join()
            self._judge()
            self._end()
        return self._report(_oom_kills() - killed)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.violations.append(f"the storm itself: {type(error).__name__}: {error}")
            self.over.set()

    def _user(self, control: Control, chance: random.Random) -> Callable[[], None]:
        names = [fault.node.name for fault in self.faults]

        def use() -> None:
            while not self.over.is_set():
                choice = commands.choose(chance, names, self.model, self.downloads.references, OWN)
                self.ran.append(commands.run(control, choice))
                self.over.wait(chance.uniform(0, 0.5))

        return use

    def _judge(self) -> None:
        """The commands, now that it is known what happened meanwhile."""
        told = "\n".join(ran.out for ran in self.ran)
        self.violations[:] = [one for one in self.violations if not invariants.lived_between(one, told)]
        for ran in self.ran:
            fault = commands.wrong(ran)
            if fault is None and ran.code == "WORKER_CRASHED" and not self._ended_by_us(ran):
                fault = "an answer broke off, and nothing had happened to its worker"
            if fault is not None:
                self.violations.append(f"{fault}: {ran}")

    def _ended_by_us(self, ran: Ran) -> bool:
        """Whether a fault of the node or a stop explains that an answer broke off. Cleanup, lease: no."""
        patience = {commands.STOP: DRAIN, commands.NOW: 0.0}
        stopped = any(
            stop.kind in patience
            and stop.began + patience[stop.kind] <= ran.ended
            and stop.ended >= ran.began
            for stop in self.ran
        )
        return stopped or any(
            fault.node.name == ran.node and ENDS_ANSWERS & set(fault.during(ran.began, ran.ended))
            for fault in self.faults
        )

    def _unexplained(self, ran: Ran) -> bool:
        """Whether nothing was done to a node that an error tells of."""
        return ran.code in SIGNS and any(
            fault.node.name == ran.node and not SIGNS[ran.code] & set(fault.during(ran.began - 5, ran.ended))
            for fault in self.faults
        )

    def _end(self) -> None:
        """After the storm: one look sees all as it is, every model can be had, one stop ends everything."""
        for control in self.controls:
            if wrong := self.audit.after_a_list(control):
                self.violations += [f"after the storm, {control.home.name}: {it}" for it in sorted(wrong)]
        self.downloads.hub.rate = None  # as fast as it goes
        for reference in self.downloads.references:
            for fault in self.faults:
                where = ("--node", fault.node.name)
                self._must(self.controls[0], commands.PULL, "models", "pull", reference, *where)
        everywhere = [word for fault in self.faults for word in ("--node", fault.node.name)]
        self._must(self.controls[1], commands.PUSH, "models", "push", OWN, *everywhere)
        self.audit.look(set())
        for model in self._must(self.controls[1], commands.LIST, "models", "list").get("models", []):
            if not model["whole"]:
                self.violations.append(f"after the storm: a model that is not whole: {model}")
        self._must(self.controls[0], commands.NOW, "workers", "stop", "--all", "--any-owner", "--now")
        self._must(self.controls[0], commands.CLEANUP, "cleanup", "--idle", "0s", "--any-owner")
        end = time.monotonic() + 60
        for fault in self.faults:
            while (left := invariants.remains(fault.look())) and time.monotonic() < end:
                time.sleep(1)
            self.violations += [f"{fault.node.name}: left: {what}" for what in sorted(left)]
        for control in self.controls:
            listed = commands.run(control, LIST)
            if listed.status != 0 or any(invariants.remembered(control).values()):
                self.violations.append(f"{control.home.name} remembers workers at the end: {listed}")
            self.violations += [f"left: {path}" for path in invariants.left_here(control)]
            self.violations += [
                f"left: process {pid} of {control.home.name}" for pid in runs_for(control.home)
            ]

    def _must(self, control: Control, kind: str, *words: str) -> dict[str, Any]:
        """What a command says that has to work when nothing is wrong any more."""
        done = commands.run(control, Choice(kind, ("--json", *words)))
        if commands.wrong(done) or done.status != 0:
            self.violations.append(f"after the storm: {done}")
        return done.said[-1] if done.said else {}

    def _report(self, killed: int) -> int:
        kinds = Counter(ran.kind for ran in self.ran)
        signals = Counter(ran.signal for ran in self.ran if ran.signal)
        ends = Counter(f"{ran.kind}: {ran.code}" for ran in self.ran)
        faults = sum((fault.counts for fault in self.faults), self.downloads.counts)
        for title, counts in (("commands", kinds), ("signals", signals), ("ends", ends), ("faults", faults)):
            told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            print(f"{title}: {counts.total()} ({told})")
        for ran in filter(self._unexplained, self.ran):
            print(f"remark: without a cause: {ran}")
        for violation in self.violations:
            print(f"violation: {violation}")
        if killed and self.violations:
            print(f"note: the kernel killed {killed} processes of this machine meanwhile, for want of memory")
        looks = f"{self.audit.looks} looks, {self.audit.lists} lists"
        print(f"seed {self.seed}: {looks}, {len(self.violations)} violations")
        return 1 if self.violations else 0


def _oom_kills() -> int:
    """What the kernel has killed since it booted because there was no memory."""
    counts = dict(line.split() for line in OOM.read_text().splitlines())
    return int(counts.get("oom_kill", 0))
