"""The JSON that `--json` prints: part of the interface, so its keys change only on purpose. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rbee_ssh.errors import RbeeError
from rbee_ssh.workers.types import Done, Event, Started, Thinking, Token, Worker

if TYPE_CHECKING:
    from rbee_ssh.fleet.run import Ended
    from rbee_ssh.fleet.setup import SetUp
    from rbee_ssh.fleet.status import NodeStatus
    from rbee_ssh.inventory import Node
    from rbee_ssh.library.pull import Pulled
    from rbee_ssh.node.checks import Check
    from rbee_ssh.node.facts import Facts

_GPU = "index name vendor backend memory_total_bytes memory_free_bytes driver"
_ENGINE = "name version path backends devices problem"
_MACHINE = "ram_total_bytes ram_free_bytes disk_free_bytes"


def shape(value: Any, fields: str) -> dict[str, Any]:
    """A value as JSON: its fields in this order, each "name", or "key=attribute.path" under another key."""
    pairs = (field.partition("=") for field in fields.split())
    return {key: _plain(attrgetter(path or key)(value)) for key, _, path in pairs}


def _plain(value: Any) -> Any:
    if isinstance(value, RbeeError):
        return value.as_json()
    return list(value) if isinstance(value, tuple) else value


def event(said: Event) -> dict[str, Any]:
    """One line of `infer`."""
    match said:
        case Token(text, index):
            return {"event": "token", "text": text, "index": index}
        case Thinking(text, index):
            return {"event": "thinking", "text": text, "index": index}
        case Started():
            return {"event": "start", **shape(said, "node worker model engine reused")}
        case Done():
            return {
                "event": "done",
                **shape(said, "finish_reason tokens prompt_tokens"),
                "seconds": round(said.seconds, 4),
                "tokens_per_second": round(said.tokens_per_second, 2),
                "time_to_first_token_ms": round(said.time_to_first_token_ms, 2),
            }


def worker(one: Worker) -> dict[str, Any]:
    """One worker of `workers list` and `nodes status`."""
    return shape(
        one,
        "id node model engine state endpoint pid started_at idle_seconds lease_seconds context parallel"
        " memory_bytes=memory device_memory_bytes=device_memory log",
    )


def workers(many: Iterable[Worker]) -> dict[str, Any]:
    """`workers list`."""
    return {"workers": [worker(one) for one in many]}


def started(one: Worker, reused: bool) -> dict[str, Any]:
    """`workers start`."""
    return {"worker": worker(one), "reused": reused}


def stopped(
    ids: Iterable[str], forced: Iterable[str], unreachable_nodes: Mapping[str, RbeeError]
) -> dict[str, Any]:
    """`workers stop`."""
    return {"stopped": list(ids), "forced": list(forced), "unreachable": unreachable(unreachable_nodes)}


def cleaned(
    ids: Iterable[str],
    kept: Iterable[tuple[str, str]],
    pruned: Iterable[str],
    unreachable_nodes: Mapping[str, RbeeError],
    *,
    dry_run: bool = False,
) -> dict[str, Any]:
    """`cleanup`. With a dry run nothing was stopped, and that is said, too."""
    return ({"dry_run": True} if dry_run else {}) | {
        "stopped": list(ids),
        "kept": [{"id": identity, "why": why} for identity, why in kept],
        "pruned": list(pruned),
        "unreachable": unreachable(unreachable_nodes),
    }


def unreachable(nodes: Mapping[str, RbeeError]) -> list[dict[str, Any]]:
    """Nodes that did not answer, each with its error."""
    return [{"node": name, "error": error.as_json()} for name, error in nodes.items()]


def listed_node(node: Node) -> dict[str, Any]:
    """One node of `nodes list`: what the inventory says, without asking it."""
    return shape(node, "name host port user jump tags engine backend device listen lease_seconds=lease")


def node_status(one: NodeStatus) -> dict[str, Any]:
    """One node of `nodes status`. A node that is down has its error, and nothing else to tell."""
    latency = None if one.latency_ms is None else round(one.latency_ms, 1)
    return {
        **shape(one, "name state"),
        "latency_ms": latency,
        **_machine(one.facts, f"os arch cpus load {_MACHINE}"),
        "workers": [worker(each) for each in one.workers],
        **shape(one, "error"),
    }


def facts(found: Facts) -> dict[str, Any]:
    """What a node has, for `nodes add` and `nodes import`."""
    return _machine(found, f"os arch cpus {_MACHINE}") | shape(found, "problems")


def _machine(found: Facts | None, fields: str) -> dict[str, Any]:
    return {
        **(shape(found, fields) if found else dict.fromkeys(fields.split())),
        "gpus": [shape(gpu, _GPU) for gpu in found.gpus] if found else [],
        "engines": [shape(engine, _ENGINE) for engine in found.engines] if found else [],
    }


def checked_node(name: str, checks: Iterable[Check], ok: bool) -> dict[str, Any]:
    """One node of `nodes check`."""
    shown = [
        {
            **shape(check, "name state detail"),
            "seconds": None if check.seconds is None else round(check.seconds, 4),
            "fix": check.fix,
        }
        for check in checks
    ]
    return {"name": name, "ok": ok, "checks": shown}


def command_ended(end: Ended) -> dict[str, Any]:
    """The last line of each node of `nodes run`."""
    return {
        "event": "end",
        **shape(end, "node=name status"),
        "seconds": round(end.seconds, 3),
        **shape(end, "error"),
    }


def set_up(one: SetUp) -> dict[str, Any]:
    """One node of `nodes setup`."""
    engine = one.engine and shape(one.engine, _ENGINE)
    return {**shape(one, "name=node changed"), "engine": engine, **shape(one, "error")}


def pulled(done: Iterable[Pulled], failed: Mapping[str, RbeeError]) -> dict[str, Any]:
    """`models pull`."""
    return {
        "pulled": [
            {
                **shape(one, "node path=fetched.path size=fetched.size"),
                **shape(one.remote, "source revision"),
                "sha256": one.remote.files[0].sha256,
                **shape(one.fetched, "fetched=fresh running"),
            }
            for one in done
        ],
        "failed": {name: error.as_json() for name, error in failed.items()},
    }
