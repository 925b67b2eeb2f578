"""What inventory.toml says, as values, and the questions they answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rbee_ssh.errors import KeyNotFound, NodeUnknown
from rbee_ssh.wording import listed, nearest, quoted

BACKENDS = ("auto", "cpu", "cuda", "rocm", "vulkan", "metal")
ENGINES = ("auto", "llama-server", "xllamacpp", "llama-cpp-python")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Every limit that a command waits for, in seconds unless the name says otherwise."""

    connect: float = 10.0
    connect_tries: int = 3
    keepalive: float = 15.0
    http_connect: float = 5.0
    start: float = 30.0  # until the worker's socket answers
    load: float = 300.0  # of a model, counted from the last sign of progress …
    load_per_gib: float = 20.0  # … and this much more for each GiB of it
    first_token: float = 60.0  # without any activity of the worker
    between_tokens: float = 60.0
    drain: float = 30.0
    term: float = 30.0
    registry_lock: float = 10.0
    download_tries: int = 6  # in a row that bring nothing new
    download_wait: float = 0.1  # before the second one; twice as long before each further one
    download_stall: float = 60.0  # without a byte


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the inventory, its defaults filled in.

    `host` is an address or an ssh_config alias. The node is `embedded` (served by an SSH server inside this
    process, no sshd needed) when its host is "localhost" and no port, user, identity_file or jump is set.
    """

    name: str
    host: str
    port: int | None = None
    user: str | None = None
    identity_file: Path | None = None
    jump: tuple[str, ...] = ()  # hops in order, each a node of the inventory or an ssh destination
    tags: tuple[str, ...] = ()
    engine: str = "auto"
    engine_path: str | None = None
    python: str | None = None
    backend: str = "auto"
    device: str | None = None  # "0" or "0,1": indices of the backend's devices
    models_dir: str = "~/.local/share/rbee/models"
    env: tuple[tuple[str, str], ...] = ()
    listen: str = "unix"
    lease: float = 3600.0
    setup: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        return self.host == "localhost" and not (self.port or self.user or self.identity_file or self.jump)


@dataclass(frozen=True, slots=True)
class ModelPreset:
    """A model with its settings under a short name."""

    name: str
    source: str
    context: int | None = None
    parallel: int | None = None
    args: tuple[str, ...] = ()  # engine arguments, passed as they stand


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything inventory.toml says. `path` is None for the built-in one with localhost."""

    nodes: Mapping[str, Node]
    models: Mapping[str, ModelPreset] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    model: str | None = None  # [defaults] model
    idle_timeout: float = 300.0
    path: Path | None = None


def node(inventory: Inventory, name: str) -> Node:
    """The node of that name.

    Raises:
        NodeUnknown: names the known ones and the nearest.
    """
    if name in inventory.nodes:
        return inventory.nodes[name]
    near = nearest(name, inventory.nodes)
    where = inventory.path or "the built-in inventory"
    question = f"; did you mean {quoted(near)}?" if near else ""
    raise NodeUnknown(
        f"no node {quoted(name)} in {where}, which has {listed(inventory.nodes)}{question}",
        hint="rbee nodes list"
        if inventory.path
        else f'put it into ~/.config/rbee/inventory.toml:\n[nodes.{name}]\nhost = "an address or ssh alias"',
        details={"node": name, "known": list(inventory.nodes), "nearest": near},
    )


def select(inventory: Inventory, names: Sequence[str] = (), tags: Sequence[str] = ()) -> tuple[Node, ...]:
    """The nodes of these names and those that carry one of these tags, each once; all when neither is given.

    Those named come first, in the order given, then those with a tag in the inventory's order.

    Raises:
        NodeUnknown: a name or a tag that the inventory does not have; says which there are.
    """
    if not names and not tags:
        return tuple(inventory.nodes.values())
    named = [node(inventory, name) for name in names]
    known = sorted({tag for found in inventory.nodes.values() for tag in found.tags})
    for tag in tags:
        if tag not in known:
            raise _unknown_tag(inventory, tag, known)
    tagged = [found for found in inventory.nodes.values() if not set(tags).isdisjoint(found.tags)]
    return tuple({found.name: found for found in (*named, *tagged)}.values())


def _unknown_tag(inventory: Inventory, tag: str, known: Sequence[str]) -> NodeUnknown:
    near = nearest(tag, known)
    where = inventory.path or "the built-in inventory"
    there = f"which has the tags {listed(known)}" if known else "which has no tags at all"
    question = f"; did you mean {quoted(near)}?" if near else ""
    return NodeUnknown(
        f"no node with the tag {quoted(tag)} in {where}, {there}{question}",
        hint="rbee nodes list",
        details={"tag": tag, "known_tags": list(known), "nearest": near},
    )


def check_keys(node: Node) -> None:
    """Look whether the node's key file is there; called before connecting, so that listing needs no key.

    Raises:
        KeyNotFound: there is no such file.
    """
    path = node.identity_file
    if path is None or path.is_file():
        return
    what = "is not a file" if path.exists() else "does not exist"
    raise KeyNotFound(
        f"identity_file of node {quoted(node.name)} {what}: {path}",
        hint=f"ls -l {shlex.quote(str(path.parent))}",
        details={"node": node.name, "path": str(path)},
    )
