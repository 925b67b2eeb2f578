"""run.sh: how a worker's engine is started on its node. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from rbee_ssh.engines.base import Launch
from rbee_ssh.ssh.quote import quote, words


def run_sh(launch: Launch, node_env: Iterable[tuple[str, str]], directory: str) -> str:
    """The script that becomes the engine.

    What the engine needs is set over the user's env; the API key is read from its file into the one variable
    that wants it, after both. Nothing secret stands in this text.
    """
    lines = ["#!/bin/sh", "umask 077", f"cd {quote(directory)} || exit 1", "export RBEE_WORKER"]
    lines += [f"export {name}={quote(value)}" for name, value in (*node_env, *launch.env)]
    if launch.key_env is not None:
        lines += [f"IFS= read -r {launch.key_env} <key", f"export {launch.key_env}"]
    lines.append(f"exec {words(launch.argv)}")
    return "\n".join(lines) + "\n"


def socket_path(sockets: str, worker_id: str) -> str:
    """Where a worker's socket goes: the private directory that the node named, else one of its own in /tmp.

    Nobody can take that name before: an id is random. llama-server takes a host for a UNIX socket only if it
    ends in ".sock".
    """
    return f"{sockets or f'/tmp/rbee.{worker_id}'}/{worker_id}.sock"  # noqa: S108  # made, checked: start.sh
