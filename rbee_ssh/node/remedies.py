"""The commands that put right what a node lacks, to be pasted by a user."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from rbee_ssh.engines import EngineFound
from rbee_ssh.inventory import Node
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.ssh.quote import ssh_words


def on_node(destination: str | None, command: str) -> str:
    """`command` as one types it here; `destination` is what follows `ssh`, quoted, None for this machine."""
    return command if destination is None else f"ssh {destination} {shlex.quote(command)}"


def state_dir(problem: str) -> str:
    """What a node needs to keep the records of workers. `problem`: why it cannot, as lib/ words it."""
    if problem.startswith("cannot"):
        return "its home directory (or XDG_STATE_HOME) must be writable"
    return "XDG_STATE_HOME on the node must lie in a directory that is yours"


def install(engine: str, node_name: str) -> str:
    """How the node gets the engine that was asked for; "auto": the one that takes the least."""
    command = f"rbee nodes setup {shlex.quote(node_name)}"
    if engine == "llama-server":
        return f"{command} --archive FILE   # or URL, of a llama.cpp release; or leave --engine out"
    return command if engine in ("auto", "xllamacpp") else f"{command} --engine {engine}"


def build_for(engine: EngineFound, gpu: Gpu, node_name: str) -> str:
    """How this engine becomes one that can use `gpu`."""
    command = f"rbee nodes setup {shlex.quote(node_name)}"
    if engine.name == "llama-server":
        return f"{command} --archive FILE   # or URL, of a llama.cpp release built for {gpu.backend}"
    if engine.name == "llama-cpp-python":
        from rbee_ssh.engines.packages import CMAKE_ARGS

        switches = CMAKE_ARGS.get(gpu.backend)
        return f"{f'CMAKE_ARGS={switches} ' if switches else ''}{command} --engine {engine.name}"
    return command


def ssh_words_of(node: Node, nodes: Mapping[str, Node]) -> str:
    """What a user types behind `ssh` to get to a node. `nodes`: the inventory's, which a hop may name."""

    def address(there: Node) -> str:
        return f"{there.user}@{there.host}" if there.user else there.host

    def hop(name: str) -> str:
        port = nodes[name].port if name in nodes else None
        return (address(nodes[name]) if name in nodes else name) + (f":{port}" if port else "")

    return ssh_words(address(node), node.port, node.identity_file, [hop(name) for name in node.jump])
