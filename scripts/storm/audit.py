"""What must hold while the storm goes on: looked at every ten seconds, and after a command of our own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from nodekit import Control
from storm import commands, invariants
from storm.commands import Choice
from storm.faults import Faults

SECONDS = 10.0
LIST = Choice(commands.LIST, ("--json", "workers", "list"))


class Audit:
    """`known`: the SHA-256 of each model of the hub by its name. What is wrong goes to `violations`."""

    def __init__(
        self,
        faults: Sequence[Faults],
        controls: Sequence[Control],
        known: Mapping[str, str],
        violations: list[str],
        over: threading.Event,
    ) -> None:
        self._faults, self._controls, self._known, self._over = faults, controls, known, over
        self._violations = violations
        self.looks = self.lists = 0

    def watch(self) -> None:
        """The nodes, and the registries as files."""
        before: set[str] = set()
        while not self._over.wait(SECONDS):
            before = self.look(before)

    def look(self, before: set[str]) -> set[str]:
        """One look; `before`: what was wrong at the last one, and is a violation now."""
        now: set[str] = set()
        for fault in self._faults:
            name, seen = fault.node.name, fault.look()
            self._tell(name, invariants.wrong_models(seen, self._known))
            if doubles := invariants.twice(seen):
                time.sleep(1)
                self._tell(name, doubles & invariants.twice(fault.look()))
            now |= {f"{name}: {it}" for it in invariants.lasting(seen)}
        self._violations += sorted(now & before)
        for control in self._controls:
            self._remembered(control)
        self.looks += 1
        return now

    def ask(self) -> None:
        """`workers list`, from one control machine after the other: is its registry true then?"""
        while not self._over.wait(SECONDS):
            control = self._controls[self.lists % len(self._controls)]
            # Another command of this control machine may have written last what it had seen first.
            if wrong := self.after_a_list(control):
                wrong &= self.after_a_list(control)
            self._tell(control.home.name, wrong)
            self.lists += 1

    def after_a_list(self, control: Control) -> set[str]:
        """A `workers list`, judged by the nodes that it reached; what its registry has that is not true."""
        before = {fault.node.name: fault.look() for fault in self._faults}
        ran = commands.run(control, LIST)
        remembered = self._remembered(control)
        if fault := commands.wrong(ran):
            self._violations.append(f"{fault}: {ran}")
            return set()
        listed = ran.said[0].get("workers", [])
        untrue: set[str] = set()
        for one in self._faults:
            name = one.node.name
            if name in ran.err:  # it was not reached
                continue
            after = one.look()
            shown = [worker["id"] for worker in listed if worker["node"] == name]
            known = remembered.get(name, set())
            untrue |= invariants.untrue(before[name], after, known, f"the registry for {name}")
            self._tell(
                control.home.name, invariants.untrue(before[name], after, shown, f"the list of {name}")
            )
            alive = invariants.orphans(before[name]) & self._staying_orphans(one)
            self._tell(name, [f"the engine of worker {it} runs on without a supervisor" for it in alive])
        return untrue

    def _staying_orphans(self, fault: Faults) -> set[str]:
        """What was killed may take a moment to die."""
        found = invariants.orphans(fault.look())
        end = time.monotonic() + 5
        while found and time.monotonic() < end:
            time.sleep(0.2)
            found &= invariants.orphans(fault.look())
        return found

    def _remembered(self, control: Control) -> dict[str, set[str]]:
        try:
            return invariants.remembered(control)
        except (ValueError, KeyError, TypeError) as error:
            self._tell(control.home.name, [f"its registry: {error!r}"])
            return {}

    def _tell(self, where: str, wrong: Iterable[str]) -> None:
        self._violations += [f"{where}: {it}" for it in sorted(wrong)]
