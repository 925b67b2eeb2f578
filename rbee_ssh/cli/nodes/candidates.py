"""Nodes that are about to be saved: tried first, and asked about where a host key is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rbee_ssh.cli.event_loop import run_async
from rbee_ssh.cli.nodes import host_keys
from rbee_ssh.cli.text import size
from rbee_ssh.errors import HostKeyUnknown, RbeeError

if TYPE_CHECKING:
    from rbee_ssh.cli.context import Cli
    from rbee_ssh.fleet.candidates import ProbeResult
    from rbee_ssh.inventory import Inventory
    from rbee_ssh.node.facts import Facts

_UNKNOWN = HostKeyUnknown.code


def tried(
    cli: Cli, inventory: Inventory, names: Sequence[str], given: Sequence[str], command: str
) -> dict[str, ProbeResult]:
    """Connect to these nodes, and ask about each unknown host key as ssh does; see host_keys.agree.

    Args:
        inventory: as it would be with the nodes.
        given: fingerprints that are trusted without asking.
        command: what was typed.
    """
    from rbee_ssh.fleet.candidates import fetch_keys, try_nodes
    from rbee_ssh.ssh import trust

    console = cli.console
    trials: dict[str, ProbeResult] = {}
    asked: set[str] = set()
    ahead = list(names)
    while ahead:
        waiting = dict.fromkeys(ahead)

        def on_node(trial: ProbeResult, waiting: dict[str, None] = waiting) -> None:
            waiting.pop(trial.name, None)
            console.status(f"trying {', '.join(waiting)}" if waiting else "")

        console.status(f"trying {', '.join(ahead)}")
        trials |= run_async(lambda ahead=ahead, on_node=on_node: try_nodes(inventory, ahead, on_node))  # type: ignore[misc]
        unknown = [name for name in names if _code(trials[name]) == _UNKNOWN and name not in asked]
        asked.update(unknown)
        ahead = []
        for name, key in run_async(lambda unknown=unknown: fetch_keys(inventory, unknown)).items():  # type: ignore[misc]
            try:
                if isinstance(key, RbeeError):
                    raise key
                host_keys.agree(console, key, given, command)
                trust.save(key)
            except RbeeError as error:
                trials[name] = replace(trials[name], error=error)
            else:
                ahead.append(name)
        if ahead:
            # Those behind a node whose key was unknown have another chance, too.
            ahead += [name for name in names if _hop_was_unknown(trials[name])]
    return trials


def _code(trial: ProbeResult) -> str | None:
    return trial.error.code if trial.error else None


def _hop_was_unknown(trial: ProbeResult) -> bool:
    error = trial.error
    return error is not None and error.code == "JUMP_FAILED" and error.details.get("cause") == _UNKNOWN


def summary(facts: Facts) -> str:
    """What was found on a node, in one line."""
    parts = [f"{facts.os or 'an unknown system'} {facts.arch or ''}".strip()]
    if facts.cpus:
        parts.append(f"{facts.cpus} CPU{'s' * (facts.cpus != 1)}")
    if facts.ram_total_bytes is not None:
        parts.append(f"{size(facts.ram_total_bytes)} RAM")
    if facts.disk_free_bytes is not None:
        parts.append(f"{size(facts.disk_free_bytes)} of disk free")
    parts += [gpu.name for gpu in facts.gpus] or ["no GPU"]
    engines = [f"{found.name} {found.version}".strip() for found in facts.engines if not found.problem]
    parts.append(" and ".join(dict.fromkeys(engines)) or "no engine")
    return ", ".join(parts)


def missing(name: str, facts: Facts) -> list[str]:
    """What a user should know before the first prompt goes there, with the way out."""
    broken = [f"{one.name} does not run: {one.problem}" for one in facts.engines if one.problem]
    notes = [f"{name}: {note}" for note in (*broken, *facts.problems)]
    if all(one.problem for one in facts.engines):
        notes.append(f"{name} has no engine that runs\nhint: rbee nodes setup {name}")
    return notes
