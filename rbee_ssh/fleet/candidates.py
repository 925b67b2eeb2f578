"""Nodes that are not in the inventory yet, tried: the connection, the shell, and what they have."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rbee_ssh.concurrency import gather_or_cancel
from rbee_ssh.errors import RbeeError
from rbee_ssh.inventory import Inventory, Node, check_keys
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.probe import probe
from rbee_ssh.ssh import trust
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.ssh.trust import PresentedKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A node that works, with its facts; or the error that says why it does not."""

    name: str
    latency_ms: float | None = None  # to connect and authenticate
    fingerprint: str | None = None  # of the host key it showed; None on localhost
    facts: Facts | None = None
    error: RbeeError | None = None


async def try_nodes(
    inventory: Inventory, names: Sequence[str], on_node: Callable[[ProbeResult], None]
) -> dict[str, ProbeResult]:
    """Connect to these nodes, all at the same time, and ask what they have; `on_node` gets it as it comes.

    Several are tried once each, a single one as often as the inventory says, which has them already.
    """

    async def result(connector: Connector, name: str) -> ProbeResult:
        result = await _try(connector, inventory.nodes[name], tries=None if len(names) == 1 else 1)
        on_node(result)
        return result

    return await _each(inventory, names, result)


async def _try(connector: Connector, node: Node, tries: int | None) -> ProbeResult:
    try:
        check_keys(node)
        connection = await connector.connect(node, tries=tries)
        try:
            facts = (await probe(connection, node)).facts
        finally:
            await connection.close()
    except RbeeError as error:
        return ProbeResult(node.name, error=error)
    key = None if connection.embedded else connection.ssh.get_server_host_key()
    fingerprint = key.get_fingerprint() if key else None
    return ProbeResult(node.name, connection.connect_seconds * 1000, fingerprint, facts)


async def fetch_keys(inventory: Inventory, names: Sequence[str]) -> dict[str, PresentedKey | RbeeError]:
    """The host keys of these nodes, or why one did not come. Nothing is written."""

    async def key(connector: Connector, name: str) -> PresentedKey | RbeeError:
        try:
            return await trust.fetch(connector, inventory.nodes[name])
        except RbeeError as error:
            return error

    return await _each(inventory, names, key)


async def _each(
    inventory: Inventory, names: Sequence[str], ask: Callable[[Connector, str], Coroutine[Any, Any, T]]
) -> dict[str, T]:
    connector = Connector(inventory.nodes, inventory.timeouts)
    try:
        return dict(zip(names, await gather_or_cancel(ask(connector, name) for name in names), strict=True))
    finally:
        await connector.close()
