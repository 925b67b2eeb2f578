"""The JSON that `--json` prints: part of the interface, so its keys change only on purpose. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rbee_ssh.errors import RbeeError
from rbee_ssh.workers.types import Done, Event, Started, Thinking, Token, Worker

if TYPE_CHECKING:
    from rbee_ssh.engines import EngineFound
    from rbee_ssh.fleet.run import Ended
    from rbee_ssh.fleet.setup import SetUp
    from rbee_ssh.fleet.status import NodeStatus
    from rbee_ssh.inventory import Node
    from rbee_ssh.library.pull import Pulled
    from rbee_ssh.node.checks import Check
    from rbee_ssh.node.facts import Facts
    from rbee_ssh.node.gpus import Gpu


def event(said: Event) -> dict[str, Any]:
    """One line of `infer`."""
    match said:
        case Token(text, index):
            return {"event": "token", "text": text, "index": index}
        case Thinking(text, index):
            return {"event": "thinking", "text": text, "index": index}
        case Started():
            return {
                "event": "start",
                "node": said.node,
                "worker": said.worker,
                "model": said.model,
                "engine": said.engine,
                "reused": said.reused,
            }
        case Done():
            return {
                "event": "done",
                "finish_reason": said.finish_reason,
                "tokens": said.tokens,
                "prompt_tokens": said.prompt_tokens,
                "seconds": round(said.seconds, 4),
                "tokens_per_second": round(said.tokens_per_second, 2),
                "time_to_first_token_ms": round(said.time_to_first_token_ms, 2),
            }


def worker(one: Worker) -> dict[str, Any]:
    """One worker of `workers list` and `nodes status`."""
    return {
        "id": one.id,
        "node": one.node,
        "model": one.model,
        "engine": one.engine,
        "state": one.state,
        "endpoint": one.endpoint,
        "pid": one.pid,
        "started_at": one.started_at,
        "idle_seconds": one.idle_seconds,
        "lease_seconds": one.lease_seconds,
        "context": one.context,
        "parallel": one.parallel,
        "memory_bytes": one.memory,
        "device_memory_bytes": one.device_memory,
        "log": one.log,
    }


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
    return {
        "name": node.name,
        "host": node.host,
        "port": node.port,
        "user": node.user,
        "jump": list(node.jump),
        "tags": list(node.tags),
        "engine": node.engine,
        "backend": node.backend,
        "device": node.device,
        "listen": node.listen,
        "lease_seconds": node.lease,
    }


def node_status(one: NodeStatus) -> dict[str, Any]:
    """One node of `nodes status`. A node that is down has its error, and nothing else to tell."""
    facts = one.facts
    return {
        "name": one.name,
        "state": one.state,
        "latency_ms": None if one.latency_ms is None else round(one.latency_ms, 1),
        "os": facts and facts.os,
        "arch": facts and facts.arch,
        "cpus": facts and facts.cpus,
        "load": facts and facts.load,
        "ram_total_bytes": facts and facts.ram_total_bytes,
        "ram_free_bytes": facts and facts.ram_free_bytes,
        "disk_free_bytes": facts and facts.disk_free_bytes,
        "gpus": [_gpu(gpu) for gpu in facts.gpus] if facts else [],
        "engines": [_engine(engine) for engine in facts.engines] if facts else [],
        "workers": [worker(one) for one in one.workers],
        "error": one.error and one.error.as_json(),
    }


def checked_node(name: str, checks: Iterable[Check], ok: bool) -> dict[str, Any]:
    """One node of `nodes check`."""
    return {
        "name": name,
        "ok": ok,
        "checks": [
            {
                "name": check.name,
                "state": check.state,
                "detail": check.detail,
                "seconds": None if check.seconds is None else round(check.seconds, 4),
                "fix": check.fix,
            }
            for check in checks
        ],
    }


def command_ended(end: Ended) -> dict[str, Any]:
    """The last line of each node of `nodes run`."""
    return {
        "event": "end",
        "node": end.name,
        "status": end.status,
        "seconds": round(end.seconds, 3),
        "error": end.error and end.error.as_json(),
    }


def facts(found: Facts) -> dict[str, Any]:
    """What a node has, for `nodes add` and `nodes import`."""
    return {
        "os": found.os,
        "arch": found.arch,
        "cpus": found.cpus,
        "ram_total_bytes": found.ram_total_bytes,
        "ram_free_bytes": found.ram_free_bytes,
        "disk_free_bytes": found.disk_free_bytes,
        "gpus": [_gpu(gpu) for gpu in found.gpus],
        "engines": [_engine(engine) for engine in found.engines],
        "problems": list(found.problems),
    }


def set_up(one: SetUp) -> dict[str, Any]:
    """One node of `nodes setup`."""
    return {
        "name": one.node,
        "changed": one.changed,
        "engine": one.engine and _engine(one.engine),
        "error": one.error and one.error.as_json(),
    }


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "name": gpu.name,
        "vendor": gpu.vendor,
        "backend": gpu.backend,
        "memory_total_bytes": gpu.memory_total_bytes,
        "memory_free_bytes": gpu.memory_free_bytes,
        "driver": gpu.driver,
    }


def _engine(engine: EngineFound) -> dict[str, Any]:
    return {
        "name": engine.name,
        "version": engine.version,
        "path": engine.path,
        "backends": list(engine.backends),
        "devices": list(engine.devices),
        "problem": engine.problem,
    }


def pulled(done: Iterable[Pulled], failed: Mapping[str, RbeeError]) -> dict[str, Any]:
    """`models pull`."""
    return {
        "pulled": [
            {
                "node": one.node,
                "path": one.fetched.path,
                "size": one.fetched.size,
                "source": one.remote.source,
                "revision": one.remote.revision,
                "sha256": one.remote.files[0].sha256,
                "fetched": one.fetched.fresh,
                "running": one.fetched.running,
            }
            for one in done
        ],
        "failed": {name: error.as_json() for name, error in failed.items()},
    }
