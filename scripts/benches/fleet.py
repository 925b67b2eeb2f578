"""`rbee nodes status` with full facts, over `uname` by pyinfra, Ansible and ssh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from benches import report, stopwatch
from benches.fleet_bed import CONNECT, FleetBed, fleet_bed
from benches.infer import Goal
from benches.rounds import Measured, ratio, rounds
from benches.stopwatch import Run

TITLE = "rbee nodes status over pyinfra, Ansible and ssh"
PARTS = ("fifty", "dead", "growth")
HEAD = ("50 nodes", "rbee", "other", "ratio", "spread", "goal", "met")
GROWN_HEAD = ("", "50 nodes", "100 nodes", "200 nodes", "200 over 50", "goal", "met")
WALL_PYINFRA, WALL_ANSIBLE, CPU_SSH, GROWTH, MEMORY = Goal(0.9), Goal(0.25), Goal(0.2), Goal(4.0), 150e6
LATE = 2.0  # seconds that a status with dead nodes may take over the connect timeout
DEAD = 5


def measure(*, quick: bool, parts: Sequence[str]) -> str:
    """The benchmark's section of docs/benchmarks.md.

    Args:
        quick: a few pairs instead of enough.
        parts: of PARTS, those to measure; all when empty.
    """
    wanted = parts or PARTS
    text = [f"## {TITLE}", report.machine(), ABOUT]
    with fleet_bed() as bed:
        if "fifty" in wanted:
            text.append(_fifty(bed, 2 if quick else 9))
        if "dead" in wanted:
            text.append(_dead(bed, 1 if quick else 5))
        if "growth" in wanted:
            text.append(_growth(bed, 1 if quick else 5))
    return "\n\n".join(text)


ABOUT = (
    "One sshd with an address for each node: their share of the work, logins and facts, is done on the same "
    "cores as the client's. `rbee nodes status` asks for all it shows; the others run `uname -a`: "
    "`pyinfra … exec`, `ansible -m raw` with 50 forks, `xargs -P 64 ssh`. All check host keys."
)


def _fifty(bed: FleetBed, count: int) -> str:
    cpu: dict[str, list[float]] = {"rbee": [], "ssh": []}

    def timed(name: str, call: Callable[[], Run]) -> Callable[[], float]:
        def measured() -> float:
            run = call()
            cpu.setdefault(name, []).append(run.cpu)
            return run.seconds

        return measured

    contenders = {
        "rbee": bed.rbee,
        "pyinfra": lambda: bed.pyinfra(50),
        "ansible": lambda: bed.ansible(50),
        "ssh": lambda: bed.ssh(50),
    }
    wall = rounds({name: timed(name, call) for name, call in contenders.items()}, count)
    spent = {name: values[1:] for name, values in cpu.items()}  # the first round does not count
    rows = [
        _row("seconds, over pyinfra", wall, "pyinfra", WALL_PYINFRA),
        _row("seconds, over Ansible", wall, "ansible", WALL_ANSIBLE),
        _row("seconds, over `xargs ssh`", wall, "ssh"),
        _row("CPU seconds of the client, over `xargs ssh`", spent, "ssh", CPU_SSH),
        _row("CPU seconds of the client, over pyinfra", spent, "pyinfra"),
    ]
    return f"{report.table(HEAD, rows)}\n\n{_where(bed, 1 + count // 2)}"


def _where(bed: FleetBed, count: int) -> str:
    """Where a run's time goes: what the machine did in it, and how much of that was the client."""
    runs, busy = [], []
    for _ in range(count):
        before = stopwatch.machine_cpu()
        runs.append(bed.rbee())
        busy.append(stopwatch.machine_cpu() - before)
    first, last = (median(run.marks[at] for run in runs) for at in (1, -1))
    wall, cpu = median(run.seconds for run in runs), median(run.cpu for run in runs)
    return (
        f"Where the time goes: in the {wall:.2f} s of a run the machine was busy for {median(busy):.2f} CPU "
        f"seconds, {cpu:.2f} of them the client's; the rest is 50 logins by sshd and 50 facts scripts. The "
        f"first row came after {first:.2f} s, the last one after {last:.2f} s."
    )


def _row(what: str, measured: Measured, other: str, goal: Goal | None = None) -> tuple[str, ...]:
    found = ratio(measured, "rbee", other)
    return (
        what,
        f"{median(measured['rbee']):.2f}",
        f"{median(measured[other]):.2f}",
        f"{found.value:.2f}",
        f"{found.low:.2f} – {found.high:.2f}",
        str(goal) if goal else "",
        _mark(goal.met(found.value)) if goal else "",
    )


def _dead(bed: FleetBed, count: int) -> str:
    """Some of the 50 do not answer. Their rows are the last ones."""
    whole = [bed.rbee() for _ in range(count)]
    bed.cut(DEAD)
    runs = [bed.rbee() for _ in range(count)]
    bed.mend()
    total = median(run.seconds for run in runs)
    shown, before = (median(run.marks[50 - DEAD] for run in some) for some in (runs, whole))
    mark = _mark(total <= CONNECT + LATE)
    return (
        f"{DEAD} of the 50 dead (packets dropped), connect timeout {CONNECT} s: {total:.2f} s in all "
        f"(goal ≤ {CONNECT + LATE:.0f} s) {mark}; the row of the {50 - DEAD}th after {shown:.2f} s, "
        f"{before:.2f} s where none is dead."
    )


def _growth(bed: FleetBed, count: int) -> str:
    sizes = (50, 100, 200)
    runs: dict[int, list[Run]] = {size: [] for size in sizes}
    for _ in range(count):
        for size in sizes:
            bed.inventory(size)
            runs[size].append(bed.rbee())
    peak = bed.peak_bytes()
    bed.inventory(50)
    rows = []
    for what, value in (("seconds", "seconds"), ("CPU seconds of the client", "cpu")):
        found = [median(getattr(run, value) for run in runs[size]) for size in sizes]
        grown = found[-1] / found[0]
        seconds = [f"{one:.2f}" for one in (*found, grown)]
        rows.append((what, *seconds, str(GROWTH), _mark(GROWTH.met(grown))))
    mark = _mark(peak <= MEMORY)
    return (
        report.table(GROWN_HEAD, rows)
        + f"\n\nPeak memory with 200 nodes: {peak / 1e6:.0f} MB (goal ≤ {MEMORY / 1e6:.0f} MB) {mark}"
    )


def _mark(met: bool) -> str:
    return "✓" if met else "✗"
