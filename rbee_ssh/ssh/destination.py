"""Where a node really is: the inventory's words over ssh_config's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rbee_ssh.errors import InventoryInvalid, SshConfigInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.ssh import known_hosts
from rbee_ssh.ssh.lean import asyncssh

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
# One hop through another, none through itself: a chain longer than this is a mistake in ssh_config.
MAX_HOPS = 8


@dataclass(frozen=True, slots=True)
class Destination:
    """One end of a connection, resolved. `alias` is what ssh_config was asked for."""

    label: str  # how the user knows it: the node's name, or the hop's text
    alias: str
    host: str
    port: int
    user: str
    user_named: bool  # by the inventory, the hop or ssh_config; else it is the name of who runs us
    hops: tuple[str, ...]
    proxy_command: tuple[str, ...]  # of ssh_config, in place of hops; empty without one
    user_known_hosts: tuple[str, ...]
    global_known_hosts: tuple[str, ...]
    key_alias: str | None
    identity_files: tuple[str, ...] | None  # of ssh_config; None: it names none, so the default ones
    identity_file: Path | None  # of the inventory, which wins
    certificate_files: tuple[str, ...]
    identities_only: bool
    agent_path: str | None  # None: as SSH_AUTH_SOCK says; "none": no agent
    ciphers_configured: bool
    compression_configured: bool
    host_key_algorithms: str | None  # of ssh_config, as they stand there
    in_inventory: bool  # a node that `rbee nodes trust` knows

    @property
    def address(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"

    @property
    def details(self) -> dict[str, Any]:
        """What an error about it tells with `--json`."""
        return {"node": self.label, "host": self.host, "port": self.port}

    @property
    def known_hosts_files(self) -> tuple[str, ...]:
        return (*self.user_known_hosts, *self.global_known_hosts)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The spellings under which known_hosts is asked for its key, the one that counts first."""
        return known_hosts.names_of(self.host, self.port, self.key_alias)

    @property
    def key_entry(self) -> str:
        """The name under which its key is written into known_hosts. An alias stands for the port, too."""
        return self.key_names[0]


def config_files() -> list[str]:
    """The ssh_config files OpenSSH reads, those that exist, first match first."""
    return [str(path) for path in (Path("~/.ssh/config").expanduser(), SYSTEM_CONFIG) if path.is_file()]


def of_node(node: Node) -> Destination:
    """Resolve a node of the inventory.

    Raises:
        SshConfigInvalid: ssh_config cannot be read or parsed.
    """
    return _resolve(node.name, node, node.jump, in_inventory=True)


def of_hop(text: str, nodes: Mapping[str, Node], *, hops: tuple[str, ...]) -> Destination:
    """Resolve a hop: a node of the inventory, or `[user@]host[:port]` as in ProxyJump, maybe an alias.

    Args:
        hops: the hops that stand before this one in the same list; they replace its own ProxyJump, as in
            OpenSSH, which hands `-J` of the earlier hops to the ssh of the later one.

    Raises:
        InventoryInvalid: the hop is not of that form.
        SshConfigInvalid: ssh_config cannot be read or parsed.
    """
    if text in nodes:
        return _resolve(text, nodes[text], hops or nodes[text].jump, in_inventory=True)
    rest = text.removeprefix("ssh://")
    user, at, rest = rest.rpartition("@")
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if not host or (at and not user) or (port and not (port.isascii() and port.isdigit())):
        raise InventoryInvalid(
            f"jump host {text!r} is not of the form [user@]host[:port]",
            hint="name a node of the inventory, an ssh_config alias or user@host:port",
        )
    node = Node(text, host, port=int(port) if port else None, user=user or None)
    return _resolve(text, node, hops, in_inventory=False)


def _resolve(label: str, node: Node, hops: tuple[str, ...], *, in_inventory: bool) -> Destination:
    alias = node.host
    named: dict[str, Any] = {"port": node.port, "username": node.user}
    given = {option: value for option, value in named.items() if value is not None}
    try:
        # client_keys=None: resolving must neither read key files nor touch the agent.
        options = asyncssh.SSHClientConnectionOptions(
            host=alias, config=config_files(), client_keys=None, pkcs11_provider=None, **given
        )
        if options.config.has_match_final():
            options.update(host=alias, reload=True, canonical=False, final=True)
    except (asyncssh.Error, ValueError, OSError, RuntimeError) as error:
        # RuntimeError is pathlib's, for the home of a user that does not exist.
        raise SshConfigInvalid(f"ssh_config, asked for {alias!r}: {error}", hint=f"ssh -G {alias}") from error
    config = options.config
    jump = config.get("ProxyJump")
    if not hops and isinstance(jump, str) and jump.lower() != "none":
        hops = tuple(hop.strip() for hop in jump.split(",") if hop.strip())
    tokens = {
        "d": os.path.expanduser("~"),
        "h": options.host,
        "k": options.host_key_alias or options.host,
        "n": alias,
        "p": str(options.port),
        "r": options.username,
    }

    def files(key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        configured = cast("list[str] | None", config.get(key))
        return default if configured is None else tuple(_expanded(name, tokens) for name in configured)

    identity_files = cast("list[str] | None", config.get("IdentityFile"))
    return Destination(
        label=label,
        alias=alias,
        host=options.host,
        port=options.port,
        user=options.username,
        user_named=node.user is not None or config.get("User") is not None,
        hops=hops,
        proxy_command=() if hops else tuple(options.proxy_command or ()),
        user_known_hosts=files("UserKnownHostsFile", known_hosts.USER_FILES),
        global_known_hosts=files("GlobalKnownHostsFile", known_hosts.GLOBAL_FILES),
        key_alias=options.host_key_alias,
        identity_files=None if identity_files is None else tuple(identity_files),
        identity_file=node.identity_file,
        certificate_files=tuple(cast("list[str]", config.get("CertificateFile", []))),
        identities_only=bool(config.get("IdentitiesOnly")),
        agent_path=_agent_path(config.get("IdentityAgent", "SSH_AUTH_SOCK")),
        ciphers_configured=config.get("Ciphers") is not None,
        compression_configured=config.get("Compression") is not None,
        host_key_algorithms=cast("str | None", config.get("HostKeyAlgorithms")),
        in_inventory=in_inventory,
    )


def _agent_path(configured: object) -> str | None:
    """IdentityAgent's value: a path, "none" (which asyncssh gives as None), or an environment variable."""
    if configured == "SSH_AUTH_SOCK":
        return None
    if isinstance(configured, str) and configured.startswith("$"):
        configured = os.environ.get(configured[1:])
    return configured if isinstance(configured, str) else "none"


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    """The tokens and ${VARIABLES} of a known_hosts file's name; asyncssh leaves them in there."""
    text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), text)
    return re.sub("%(.)", lambda match: {"%": "%", **tokens}.get(match[1], match[0]), text)
