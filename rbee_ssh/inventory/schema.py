"""Every key of inventory.toml. The sample at the top of the repository shows each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from rbee_ssh.inventory.readers import (
    Complain,
    Reader,
    argument,
    choice,
    device,
    environment,
    hop_problem,
    host_problem,
    integer,
    kind,
    name_problem,
    node_path_problem,
    program_problem,
    seconds,
    string,
    strings,
    task_problem,
    user_problem,
)
from rbee_ssh.inventory.types import BACKENDS, ENGINES, Timeouts

SECTIONS = ("defaults", "nodes", "models", "timeouts")
# How a machine is reached. [defaults] of these are for machines that are somewhere else.
WAY = ("port", "user", "identity_file", "jump")


def _jump(value: object, complain: Complain) -> tuple[str, ...]:
    """Hops in order, as one string with commas between, as ProxyJump has it, or as an array."""
    expected = 'hops as in "a,user@b:22" or an array of them'
    hop = string("a hop", hop_problem)
    if isinstance(value, str):
        return tuple(hop(part.strip(), complain) for part in value.split(","))
    if not isinstance(value, list):
        complain(f"expected {expected}, got {kind(value)}")
        return ()
    return strings("hops", hop)(value, complain)  # type: ignore[no-any-return]


NODE: Mapping[str, Reader] = {
    "host": string("an address or a Host of ssh_config", host_problem),
    "port": integer(1, 65535),
    "user": string("a user name", user_problem),
    "identity_file": string("the path of a private key"),
    "jump": _jump,
    "tags": strings("tags", string("a tag", name_problem)),
    "engine": choice(ENGINES),
    "engine_path": string("a program on the node", program_problem),
    "python": string("a Python interpreter on the node", program_problem),
    "backend": choice(BACKENDS),
    "device": device,
    "models_dir": string("a directory on the node", node_path_problem),
    "env": environment,
    "listen": choice(("unix", "tcp")),
    "lease": seconds(),
    "setup": strings("Fabric tasks", string("a task", task_problem)),
}

DEFAULTS: Mapping[str, Reader] = {
    **NODE,
    "model": string("a model reference or a preset's name"),
    "idle_timeout": seconds(zero=True),
}

MODEL: Mapping[str, Reader] = {
    "source": string("a model reference"),
    "context": integer(1),
    "parallel": integer(1),
    "args": strings("strings", argument),
}

# Not to wait at all has a meaning for these; the others would only ever fail.
_MAY_BE_ZERO = {"load_per_gib", "drain", "term", "registry_lock"}

TIMEOUTS: Mapping[str, Reader] = {
    field.name: integer(1, 100) if field.type == "int" else seconds(zero=field.name in _MAY_BE_ZERO)
    for field in fields(Timeouts)
}
