"""What must hold on the nodes and the control machines. Pure, but for the files of a control machine.

"Lasting": such a state may pass; it is wrong when it is still there at the next look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from nodekit import Control
from storm.look import Look, Process, Worker

SUPERVISOR = re.compile(r"/workers/([0-9a-f]{12})/supervise\.sh")
# What a control machine's state directory may hold between two commands.
KEPT_HERE = {"registry.json", "registry.lock", "client-id", "cleanup.lock"}


def serving(worker: Worker) -> bool:
    """It lives and is not being stopped."""
    return worker.supervised and worker.match is not None and not worker.stopping and not worker.ended


def twice(seen: Look) -> set[str]:
    """Keys with more than one worker. A look takes a moment, and one may have followed the other in it."""
    keys: dict[str, list[str]] = {}
    for worker in seen.workers:
        if serving(worker):
            keys.setdefault(worker.match or "", []).append(worker.id)
    return {f"workers {' and '.join(ids)} for one key" for ids in keys.values() if len(ids) > 1}


def strays(seen: Look) -> set[str]:
    """Lasting: processes of a worker that has no directory or has ended."""
    open_ended = {worker.id for worker in seen.workers if not worker.ended}
    found = set()
    for process in seen.processes:
        worker = process.worker or supervised(process)
        if worker is not None and worker not in open_ended:
            found.add(f"a process of worker {worker}, which is gone: {process}")
    return found


def supervised(process: Process) -> str | None:
    """Whose supervisor it is."""
    named = (SUPERVISOR.search(word) for word in process.argv)
    return next((match[1] for match in named if match), None)


def held(seen: Look) -> set[str]:
    """Lasting: one and the same holder of the lock, which is to be held for milliseconds."""
    living = {process.key for process in seen.processes}
    holder = (seen.lock or "").rpartition(" ")[0]
    return {f"the lock is held all the time by {seen.lock}"} if holder in living else set()


def wrong_models(seen: Look, known: Mapping[str, str]) -> set[str]:
    """What is called a model and is none. `known`: the SHA-256 of each name."""
    return {
        f"{path} is no such model"
        for path, sha256 in seen.models
        if known.get(path.rpartition("/")[2]) != sha256
    }


def bare_notes(seen: Look) -> set[str]:
    """Lasting: a note in the store without its model."""
    files = set(seen.files)
    notes = (path for path in files if path.endswith(".gguf.json"))
    return {f"{path} without a model" for path in notes if path.removesuffix(".json") not in files}


def lasting(seen: Look) -> set[str]:
    """All that is wrong when it is there at the next look, too."""
    return strays(seen) | held(seen) | bare_notes(seen)


def orphans(seen: Look) -> set[str]:
    """Workers whose engine runs without a supervisor: gone after the next command."""
    return {worker.id for worker in seen.workers if worker.engine and not worker.supervised}


def lived_between(violation: str, told: str) -> bool:
    """Whether a worker of a list that was there neither before nor after it lived in between: other commands
    tell of it, as one that they started or stopped. What nobody else has ever named was made up."""
    found = re.search("worker ([0-9a-f]{12}) of the list of [^ ]+ is nowhere", violation)
    return found is not None and found[1] in told


def untrue(before: Look, after: Look, told: Collection[str], where: str) -> set[str]:
    """What a command that looked in between `told` of a node's workers, against what was there all the time,
    and what was there at no time."""
    later = {(worker.id, worker.boot) for worker in after.workers if serving(worker)}
    all_the_time = {one.id for one in before.workers if serving(one) and (one.id, one.boot) in later}
    ever = {worker.id for worker in (*before.workers, *after.workers)}
    return {
        *(f"worker {one} is not in {where}" for one in all_the_time - set(told)),
        *(f"worker {one} of {where} is nowhere" for one in set(told) - ever),
    }


def remains(seen: Look) -> set[str]:
    """What is there and should not be when everything was stopped and fetched. A start that failed is kept
    with its log; a transfer that was cut is kept for a week, but only its bytes."""
    failed = {worker.id for worker in seen.workers if worker.ended and not worker.stopping}
    return {
        *(f"worker {worker.id}" for worker in seen.workers if worker.id not in failed),
        *(f"process {process}" for process in seen.processes),
        *(f"file {path}" for path in seen.files if not _may_stay(path)),
    }


def _may_stay(path: str) -> bool:
    if "/.incoming-" in path:
        return path.endswith(".part")
    # Of a fetch that nobody has asked about since its last word and whose it was; what was proven of a model.
    kept = r"\.gguf(\.json)?$|/fetches/[^/]+/(state|job)$|/proofs/[^/]+$"
    return re.search(kept, path) is not None


def remembered(control: Control) -> dict[str, set[str]]:
    """The ids of the workers that a registry has, by node.

    Raises:
        ValueError: it cannot be loaded; the text says why.
    """
    directory = control.home / ".local/state/rbee"
    if aside := sorted(path.name for path in directory.glob("registry.corrupt*")):
        raise ValueError(f"set aside: {aside}")
    try:
        text = (directory / "registry.json").read_text()
    except FileNotFoundError:
        return {}
    data: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    if data["meta"]["schema"]["version"] != 1:
        raise ValueError(f"its meta is {data['meta']}")
    found: dict[str, set[str]] = {}
    for entry in data.get("workers", {}).values():
        found.setdefault(str(entry["node"]), set()).add(str(entry["id"]))
    return found


def left_here(control: Control) -> list[str]:
    """Files that no command should leave on its control machine: beside the registry, and temporary ones."""
    state, temporary = control.home / ".local/state/rbee", control.home / "tmp"
    beside = [path for path in state.rglob("*") if path.is_file() and path.name not in KEPT_HERE]
    return [str(path) for path in (*beside, *temporary.rglob("*"))]
