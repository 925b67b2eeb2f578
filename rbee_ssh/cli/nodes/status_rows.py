"""What `nodes status` shows: one line a node, its place fixed before the first has answered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rbee_ssh.cli.text import Column, Layout, fit, lay_out, size, span, unreachable, width
from rbee_ssh.errors import RbeeError

if TYPE_CHECKING:
    from rbee_ssh.fleet.status import NodeStatus
    from rbee_ssh.node.gpus import Gpu
    from rbee_ssh.workers.types import Worker

# Each with the width that its cells are expected to need. Rows are printed as nodes answer, so what the later
# ones will hold cannot be waited for.
STATUS_COLUMNS = (
    (Column("NAME", keep="end"), 4),
    (Column("STATE"), 5),
    (Column("LATENCY", right=True, spare=3), 7),
    (Column("SYSTEM", keep="start", spare=5), 13),
    (Column("LOAD", right=True, spare=2), 8),
    (Column("RAM FREE", right=True), 10),
    (Column("DISK FREE", right=True, spare=4), 10),
    (Column("GPU FREE", right=True, spare=1), 10),
    (Column("GPUS", keep="start", spare=6), 26),
    (Column("ENGINES", keep="start"), 12),
    (Column("WORKERS", keep="start"), 10),
)
ROOMY = {"ENGINES": 25, "WORKERS": 30}
_BUSY_FIRST = ("busy", "idle", "loading", "starting", "stopping")
_REASONS = {
    "HOST_KEY_UNKNOWN": "its host key is not in known_hosts",
    "HOST_KEY_CHANGED": "its host key has changed",
    "AUTH_FAILED": "no key was accepted",
}


def layout(names: Sequence[str], limit: int | None) -> Layout:
    """Where the columns stand for nodes of these names, on a terminal of `limit` columns or in a pipe."""
    columns = [column for column, _ in STATUS_COLUMNS]
    widths = [max(least, width(column.title)) for column, least in STATUS_COLUMNS]
    widths[0] = max([widths[0], *map(width, names)])
    room = None if limit is None else limit - sum(widths) - 2 * (len(widths) - 1)
    for at, column in enumerate(columns):
        more = ROOMY.get(column.title, 0) - widths[at]
        if more > 0 and (room is None or room > 0):
            widths[at] += more if room is None else min(more, room)
            room = None if room is None else room - more
    found = lay_out(columns, widths, limit)
    if limit is None:
        return found
    rest = limit - sum(found.widths) - 2 * (len(found.widths) - 1)
    return Layout(
        found.columns, found.shown, (*found.widths[:-1], found.widths[-1] + max(rest, 0)), found.limit
    )


def line(place: Layout, one: NodeStatus) -> tuple[str, str]:
    if one.state == "asking":
        return place.note([one.name, "…"], ""), ""
    if one.error is not None:
        return place.note([one.name, one.state], why(one.error)), "bad"
    cells = place.line(row(one))
    # On a terminal that is narrower than the columns that are never cut.
    return cells if place.limit is None else fit(cells, place.limit), ""


def row(one: NodeStatus) -> list[str]:
    facts = one.facts
    latency = "" if one.latency_ms is None else f"{one.latency_ms:.0f} ms"
    if facts is None:
        return [one.name, one.state, latency, *[""] * 8]
    return [
        one.name,
        one.state,
        latency,
        f"{facts.os} {facts.arch}",
        _load(facts.load, facts.cpus),
        _free(facts.ram_free_bytes, facts.ram_total_bytes),
        "" if facts.disk_free_bytes is None else size(facts.disk_free_bytes),
        _gpu_memory(facts.gpus),
        ", ".join(_counted([gpu.name for gpu in facts.gpus])),
        ", ".join(dict.fromkeys(f"{one.name}{' ✗' if one.problem else ''}" for one in facts.engines)),
        workers(one.workers),
    ]


def workers(many: Sequence[Worker]) -> str:
    """What runs: "busy tiny, idle 5m10s other", behind their number where it is more than one."""
    order = {state: at for at, state in enumerate(_BUSY_FIRST)}
    told = []
    for one in sorted(many, key=lambda one: order.get(one.state, len(order))):
        idle = f" {span(one.idle_seconds)}" if one.state == "idle" and one.idle_seconds is not None else ""
        model = one.model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
        told.append(f"{one.state}{idle} {model}".rstrip())
    return (f"{len(many)}: " if len(many) > 1 else "") + ", ".join(told)


def why(error: RbeeError) -> str:
    """Why a node is down, in a few words."""
    code = error.details.get("cause", error.code)
    attempts = error.details.get("attempts")
    reason = _REASONS.get(code) or (attempts[-1] if attempts else error.message.partition("\n")[0])
    return f"jump host {error.details.get('hop')}: {reason}" if error.code == "JUMP_FAILED" else str(reason)


def problems(one: NodeStatus) -> list[str]:
    """What a user should know of a node, beside the table: why it is down, what will not work."""
    if one.error is not None:
        return [unreachable(one.name, one.error)]
    if one.facts is None:
        return []
    broken = [
        f"{engine.name} does not run: {engine.problem}" for engine in one.facts.engines if engine.problem
    ]
    return [f"{one.name}: {problem}" for problem in (*broken, *one.facts.problems)]


def picture(
    place: Layout, many: Sequence[NodeStatus], now: str, height: int | None = None
) -> list[tuple[str, str]]:
    """The lines of `--watch`, each with its tone.

    Args:
        now: the time.
        height: lines of the terminal; None where all are to be shown.
    """
    up, down = (sum(one.state == state for one in many) for state in ("up", "down"))
    asked = len(many) - up - down
    counts = f"{up} up, {down} down" + (f", {asked} not heard yet" if asked else "")
    lines = [(f"{now}  {counts}", ""), (place.titles, "title"), *(line(place, one) for one in many)]
    told = [
        (problem.partition("\n")[0], "") for one in many if one.error is None for problem in problems(one)
    ]
    if height is None or len(lines) <= height:
        lines += [("", ""), *told] if told else []
        return lines if height is None else lines[:height]
    hidden = many[height - 3 :]
    bad = sum(one.state == "down" for one in hidden)
    lines[height - 1 :] = [(f"… and {len(hidden)} more, {bad} of them down", "bad" if bad else "")]
    return lines


def _counted(names: Sequence[str]) -> list[str]:
    """Each name once, with how often it came: "2× RTX 4090"."""
    return [f"{count}× {name}" if (count := names.count(name)) > 1 else name for name in dict.fromkeys(names)]


def _gpu_memory(gpus: Sequence[Gpu]) -> str:
    free = [gpu.memory_free_bytes for gpu in gpus if gpu.memory_free_bytes is not None]
    total = [gpu.memory_total_bytes for gpu in gpus if gpu.memory_total_bytes is not None]
    return _free(sum(free), sum(total)) if free and total else ""


def _load(load: float | None, cpus: int | None) -> str:
    """The load over the CPUs there are: "3.1/16"."""
    if load is None:
        return "" if cpus is None else f"/{cpus}"
    return f"{load:.1f}/{cpus or '?'}"


def _free(free: int | None, total: int | None) -> str:
    """Free bytes of all, in the unit of all: "22.9/23.5G"."""
    if free is None or total is None:
        return "" if free is None else size(free)
    whole, unit = size(total).split(" ")
    share = float(whole) * free / max(total, 1)
    digits = 0 if float(whole) >= 100 else 1
    return f"{share:.{digits}f}/{float(whole):.{digits}f}{unit[0]}"
