"""Nodes that are not in the inventory yet, tried: the way there, the login, the shell, and what they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbee_ssh.concurrency import gather_or_cancel
from rbee_ssh.errors import RbeeError
from rbee_ssh.inventory import Inventory, check_keys
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.probe import probe
from rbee_ssh.ssh import trust
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.ssh.trust import PresentedKey


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A node that works, with its facts; or the error that says why it does not.

    `latency_ms`: to connect and authenticate. `fingerprint`: of the host key it showed, None on localhost.
    """

    name: str
    latency_ms: float | None = None
    fingerprint: str | None = None
    facts: Facts | None = None
    error: RbeeError | None = None


async def try_nodes(
    inventory: Inventory, names: Sequence[str], on_node: Callable[[ProbeResult], None]
) -> dict[str, ProbeResult]:
    """Connect to these nodes, all at the same time, and ask what they have.

    Several are tried once each, one as often as the inventory says.

    Args:
        inventory: as it would be with them.
        on_node: told each as it comes.
    """
    wire = Connector(inventory.nodes, inventory.timeouts)

    async def one(name: str) -> ProbeResult:
        trial = await _try(wire, inventory, name, tries=None if len(names) == 1 else 1)
        on_node(trial)
        return trial

    try:
        return {trial.name: trial for trial in await gather_or_cancel(one(name) for name in names)}
    finally:
        await wire.close()


async def _try(wire: Connector, inventory: Inventory, name: str, tries: int | None) -> ProbeResult:
    node = inventory.nodes[name]
    try:
        check_keys(node)
        connection = await wire.connect(node, tries=tries)
        try:
            answer = await probe(connection, node)
        finally:
            await connection.close()
    except RbeeError as error:
        return ProbeResult(name, error=error)
    key = None if connection.embedded else connection.ssh.get_server_host_key()
    return ProbeResult(
        name,
        latency_ms=connection.connect_seconds * 1000,
        fingerprint=key.get_fingerprint() if key else None,
        facts=answer.facts,
    )


async def fetch_keys(inventory: Inventory, names: Sequence[str]) -> dict[str, PresentedKey | RbeeError]:
    """The host keys of these nodes, or why one did not come. Nothing is written."""
    wire = Connector(inventory.nodes, inventory.timeouts)

    async def one(name: str) -> PresentedKey | RbeeError:
        try:
            return await trust.fetch(wire, inventory.nodes[name])
        except RbeeError as error:
            return error

    try:
        return dict(zip(names, await gather_or_cancel(one(name) for name in names), strict=True))
    finally:
        await wire.close()
