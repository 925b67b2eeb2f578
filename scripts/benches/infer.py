"""`rbee infer` over the same thing done by hand with ssh and curl."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benches import report, stopwatch
from benches.bed import ONE_THREAD, Bed, bed
from benches.rounds import Measured, ratio, rounds
from nodekit.control import rbee_path

TITLE = "rbee infer over ssh, curl and scripts"
PARTS = ("warm", "speed", "cold", "version", "memory")
ENGINE = "llama-server"
COLD_ENGINES = ("llama-server", "xllamacpp")
SPEED_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row is held to: the ratio at most, or at least, this."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


WARM, SPEED, COLD, VERSION, MEMORY = Goal(1.2), Goal(0.97, at_least=True), Goal(1.2), Goal(1.5), 60e6
HEAD = ("", "rbee", "by hand", "ratio", "spread", "goal", "met")


def measure(*, quick: bool, parts: Sequence[str]) -> str:
    """The benchmark's section of docs/benchmarks.md.

    Args:
        quick: a few pairs instead of enough.
        parts: of PARTS, those to measure; all when empty.
    """
    wanted = parts or PARTS
    text = [f"## {TITLE}", report.machine()]
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    with bed(ENGINE) as place:
        if "warm" in wanted:
            warm_rows, stages = _warm(place, 3 if quick else 21)
            rows += warm_rows
            notes.append(stages)
        if "speed" in wanted:
            speed_rows, spent = _speed(place, 2 if quick else 15)
            rows += speed_rows
            notes.append(spent)
        if "memory" in wanted:
            notes.append(_memory(place, 2 if quick else 7))
        if "cold" in wanted:
            rows += _cold(place, 2 if quick else 9)
    if "cold" in wanted:
        for engine in COLD_ENGINES[1:]:
            with bed(engine) as place:
                rows += _cold(place, 2 if quick else 9)
    if "version" in wanted:
        rows += _version(5 if quick else 31)
    if rows:
        text.append(report.table(HEAD, rows))
    return "\n\n".join(text + notes)


def _warm(place: Bed, count: int) -> tuple[list[tuple[str, ...]], str]:
    """Process start to the first token, with a worker that is ready."""
    socket, key = _way(place.start())
    curl = place.curl(socket, key, 1)
    stages: list[dict[str, float]] = []
    measured = rounds(
        {
            "curl": lambda: place.over_ssh(curl).first,
            "json": lambda: place.infer(1).first,
            "text": lambda: place.infer(1, json_lines=False).first,
            "floor": lambda: place.floor(socket, key, 1, ()).first,
            "imports": lambda: place.floor(socket, key, 1, ("httpx", "click", "tinydb")).first,
            "stages": lambda: _kept(stages, place.stages(1)),
        },
        count,
    )
    rows = [
        _row("first token, warm, `--json`, over `ssh node curl`", measured, "json", "curl", WARM),
        _row("first token, warm, as text, over `ssh node curl`", measured, "text", "curl", WARM),
        _row("… a bare asyncssh script", measured, "floor", "curl"),
        _row("… with httpx, click and tinydb imported", measured, "imports", "curl"),
    ]
    return rows, _told(stages)


def _kept(stages: list[dict[str, float]], one: dict[str, float]) -> float:
    stages.append(one)
    return one["first token"]


def _told(stages: Sequence[dict[str, float]]) -> str:
    """Where the time to a warm first token goes: what each stage adds, as medians."""
    added: dict[str, list[float]] = {}
    for one in stages:
        before = 0.0
        for name, moment in one.items():
            added.setdefault(name, []).append(moment - before)
            before = moment
    told = ", ".join(f"{name} {_ms(median(added[name]))}" for name in added if name != "end")
    return f"Where a warm first token's time goes (ms, medians): {told}."


def _speed(place: Bed, count: int) -> tuple[list[tuple[str, ...]], str]:
    """Tokens a second between the first and the last of a long answer.

    Twice: with an engine on every core, which sshd and whoever reads take their time from, and with one that
    leaves them a core, as a control machine of its own would.
    """
    gather_or_cancel = _speeds(place, count)
    place.stop()
    apart = _speeds(replace(place, preset=ONE_THREAD), count)
    spent = _spent(replace(place, preset=ONE_THREAD), 2 if count < 5 else 5)
    place.stop()
    rows = [
        _row("tokens/s, 256 tokens, over `curl` on the node", gather_or_cancel, "rbee", "curl", SPEED, _rate),
        _row("… `ssh node curl`", gather_or_cancel, "ssh", "curl", None, _rate),
        _row("… rbee, the engine on one core of two", apart, "rbee", "curl", SPEED, _rate),
        _row("… `ssh node curl`, the engine on one core of two", apart, "ssh", "curl", None, _rate),
    ]
    return rows, spent


def _spent(place: Bed, count: int) -> str:
    """What reading a token costs the one who reads: CPU time of a long answer less that of a short one."""
    curl = {n: place.curl(*_way(place.start()), n) for n in (1, SPEED_TOKENS)}
    rbee, ssh = (
        median((run(SPEED_TOKENS).cpu - run(1).cpu) / (SPEED_TOKENS - 1) for _ in range(count))
        for run in (place.infer, lambda n: place.over_ssh(curl[n]))
    )
    return (
        f"Reading a token takes rbee {rbee * 1000:.2f} ms of CPU time, and ssh {ssh * 1000:.2f} ms. An "
        "engine that computes on every core of the same machine waits for whoever takes one of them; with a "
        "core left, or on a machine of its own, it does not."
    )


def _way(worker: Mapping[str, str]) -> tuple[str, str]:
    """The socket of a worker, and the file with its key."""
    return worker["endpoint"].removeprefix("unix:"), f"{worker['log'].rpartition('/')[0]}/key"


def _speeds(place: Bed, count: int) -> Measured:
    curl = place.curl(*_way(place.start()), SPEED_TOKENS)
    return rounds(
        {
            "curl": lambda: place.on_node(curl).per_second,
            "rbee": lambda: place.infer(SPEED_TOKENS).per_second,
            "ssh": lambda: place.over_ssh(curl).per_second,
        },
        count,
    )


def _cold(place: Bed, count: int) -> list[tuple[str, ...]]:
    """Process start to the first token, with no worker running."""
    script = place.prepare_by_hand()
    place.stop()

    def by_rbee() -> float:
        try:
            return place.infer(1).first
        finally:
            place.stop()

    def by_hand() -> float:
        try:
            return place.over_ssh(script).first
        finally:
            place.stop_by_hand()

    measured = rounds({"hand": by_hand, "rbee": by_rbee}, count)
    return [
        _row(f"first token, cold, {place.engine}, over a script through ssh", measured, "rbee", "hand", COLD)
    ]


def _version(count: int) -> list[tuple[str, ...]]:
    measured = rounds(
        {
            "click": lambda: stopwatch.run([sys.executable, "-c", "import click"], None).seconds,
            "rbee": lambda: stopwatch.run([rbee_path(), "--version"], None).seconds,
        },
        count,
    )
    return [_row('`rbee --version` over `python -c "import click"`', measured, "rbee", "click", VERSION)]


def _memory(place: Bed, count: int) -> str:
    """The peak memory of the command itself, when it starts a worker and when it finds one."""
    place.stop()
    cold = place.peak_bytes(SPEED_TOKENS)
    warm = median(place.peak_bytes(SPEED_TOKENS) for _ in range(count))
    mark = "✓" if max(cold, warm) <= MEMORY else "✗"
    return (
        f"Peak memory of `rbee infer`, {SPEED_TOKENS} tokens: {warm / 1e6:.1f} MB warm, "
        f"{cold / 1e6:.1f} MB cold (goal ≤ {MEMORY / 1e6:.0f} MB) {mark}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _milliseconds(seconds: float) -> str:
    return f"{_ms(seconds)} ms"


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}"


def _row(
    what: str,
    measured: Measured,
    ours: str,
    theirs: str,
    goal: Goal | None = None,
    shown: Callable[[float], str] = _milliseconds,
) -> tuple[str, ...]:
    found = ratio(measured, ours, theirs)
    return (
        what,
        shown(median(measured[ours])),
        shown(median(measured[theirs])),
        f"{found.value:.2f}",
        f"{found.low:.2f} – {found.high:.2f}",
        str(goal) if goal else "",
        ("✓" if goal.met(found.value) else "✗") if goal else "",
    )
