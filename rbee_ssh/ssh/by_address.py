"""Nodes whose host key known_hosts has under the address alone. Up to now that let them in.

Nobody is connected to: names are resolved, and only those that known_hosts does not have.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rbee_ssh.errors import RbeeError
from rbee_ssh.inventory import Node
from rbee_ssh.ssh import destination, known_hosts
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.refusals import to_trust

PATIENCE = 3.0  # seconds for all names together; a name server that is gone takes longer

Resolve = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class ByAddress:
    """A node, or a jump host on its way, that is known by its address alone. `trust` is what to type."""

    node: str
    host: str
    known_as: str
    file: str
    line: int
    trust: str

    def __str__(self) -> str:
        return (
            f"node {self.node}: known_hosts has no key for {self.host}, only one for its address "
            f"{self.known_as} ({self.file} line {self.line}), and that does not count: {self.trust}"
        )


def addresses_of(host: str) -> list[str]:
    """The addresses of a name, none where it has none."""
    with contextlib.suppress(OSError, UnicodeError):
        return [str(answer[4][0]) for answer in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    return []


def known_by_address(nodes: Mapping[str, Node], resolve: Resolve = addresses_of) -> list[ByAddress]:
    """Those of these nodes, and of their jump hosts, that are refused for it. Takes PATIENCE at most."""
    unknown: list[tuple[str, Destination]] = []
    for node in nodes.values():
        with contextlib.suppress(RbeeError):  # ssh_config is at fault: the node says so when it is used
            unknown += [(node.name, target) for target in _direct(node, nodes) if not _known(target)]
    addresses = _resolved({target.host for _, target in unknown}, resolve)
    told = [_told(name, target, addresses.get(target.host, [])) for name, target in unknown]
    return [one for one in told if one is not None]


def _direct(node: Node, nodes: Mapping[str, Node]) -> Iterator[Destination]:
    """What is connected to from here: the node, or the first hop; behind that no address is known."""
    if node.embedded:
        return
    target = destination.of_node(node)
    if target.hops:
        if target.hops[0] in nodes:
            return  # a node by itself
        target = destination.of_hop(target.hops[0], nodes, hops=())
    if not target.hops and not target.proxy_command:
        yield target


def _known(target: Destination) -> bool:
    trusted = _entries(target).trusted(target.key_names)
    return bool(trusted.keys or trusted.authorities)


def _entries(target: Destination) -> known_hosts.KnownHosts:
    return known_hosts.load(known_hosts.read(target.known_hosts_files))


def _told(node: str, target: Destination, addresses: list[str]) -> ByAddress | None:
    entries = _entries(target)
    for address in addresses:
        for name in known_hosts.names_of(address, target.port):
            for entry in (*entries.under(name), *entries.under(name, known_hosts.AUTHORITY)):
                return ByAddress(node, target.key_entry, name, entry.file, entry.line, to_trust(target))
    return None


def _resolved(hosts: set[str], resolve: Resolve) -> dict[str, list[str]]:
    """All at once, in threads that nobody waits for: a name server may not answer."""
    addresses: dict[str, list[str]] = {}

    def look(host: str) -> None:
        addresses[host] = resolve(host)

    threads = [threading.Thread(target=look, args=(host,), daemon=True) for host in sorted(hosts)]
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(addresses)
