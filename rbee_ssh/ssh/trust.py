"""`rbee nodes trust`: fetch a host key, and write it to known_hosts as OpenSSH would."""

from __future__ import annotations

import asyncio
import os
import secrets
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha1
from hmac import digest
from pathlib import Path

from rbee_ssh.errors import NodeUnreachable, UsageInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.ssh import config, destination, known_hosts
from rbee_ssh.ssh.connector import Connector, reason
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.known_hosts import Trusted
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.quote import quote
from rbee_ssh.ssh.refusals import host_key_refused


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A host key as the server presents it, and where it would be written."""

    node: str
    host: str
    port: int
    name: str  # how known_hosts spells the host
    key_type: str
    fingerprint: str
    key: str  # type and base64
    file: str
    known: bool  # it stands there already
    hashed: bool = False  # ssh would hash the name, whatever the file has
    alias: str = ""  # what ssh_config was asked for
    known_as: str = ""  # the other name under which this very key stands there, and where


async def fetch(wire: Connector, node: Node) -> PresentedKey:
    """Ask the node for its host key, through its jump hosts. Nothing else is sent.

    Args:
        wire: opens the hops, and says when it is this node's turn.

    Raises:
        NodeUnreachable, JumpFailed: no key came.
        HostKeyChanged: known_hosts holds another key for this host.
        UsageInvalid: the embedded localhost, which has no host key to trust; or nowhere to write one.
    """
    if node.embedded:
        raise UsageInvalid(f"node {node.name!r} is this machine: there is no host key to trust")
    target = destination.of_node(node)
    if not target.user_known_hosts:
        raise UsageInvalid(
            f"ssh_config names no file for the host key of node {node.name!r}: UserKnownHostsFile none",
            hint=f"ssh -G {quote(target.alias)} | grep -i knownhosts",
        )
    entries = known_hosts.load(known_hosts.read(target.known_hosts_files))
    trusted = entries.trusted(target.key_names)
    key = await _ask(wire, target, trusted)
    if any(entry.key == key for entry in trusted.revoked):
        raise host_key_refused(target, entries, key, asyncssh.HostKeyNotVerifiable("revoked"))
    # By the name that is written, with the port: another port of a known host is another host.
    stands = entries.trusted(target.key_names[:1]).keys
    known = any(entry.key == key for entry in stands)
    if stands and not known:
        # Beside the old key the new one would be trusted for good, whoever holds it.
        raise host_key_refused(target, entries, key, asyncssh.HostKeyNotVerifiable("changed"))
    elsewhere = None if known else known_hosts.known_as(entries, key, ())
    return PresentedKey(
        node=node.name,
        host=target.host,
        port=target.port,
        name=target.key_entry,
        key_type=key.get_algorithm(),
        fingerprint=key.get_fingerprint(),
        key=known_hosts.text_of(key),
        file=target.user_known_hosts[0],
        known=known,
        hashed=config.hashes_names(target.alias),
        alias=target.alias,
        known_as="" if elsewhere is None else known_hosts.told(*elsewhere),
    )


async def _ask(wire: Connector, target: Destination, trusted: Trusted) -> asyncssh.SSHKey:
    """The key the server presents, of the type that known_hosts has for it where it has both."""
    try:
        tunnel = await wire.tunnel_to(target)
        async with wire.gate(target).entered(), asyncio.timeout(wire.timeouts.connect):
            key = await asyncssh.get_server_host_key(
                target.alias,
                target.port,
                config=destination.config_files(),
                tunnel=tunnel,
                server_host_key_algs=known_hosts.algorithms(trusted, target.host_key_algorithms),
                # No key of the user's is looked at: nobody logs in.
                options=asyncssh.SSHClientConnectionOptions(
                    config=None, client_keys=None, agent_path=None, pkcs11_provider=None
                ),
            )
    except (OSError, asyncssh.Error, ValueError, OverflowError) as error:
        raise NodeUnreachable(
            f"node {target.label!r} cannot be reached at {target.host} port {target.port}: {reason(error)}",
            hint=f"ssh -v {quote(target.host)}",
            details=target.details,
        ) from error
    if key is None:
        raise NodeUnreachable(f"node {target.label!r} presented no host key")
    return key


def save(fetched: PresentedKey) -> None:
    """Append the key to known_hosts; the name is hashed where the file's other names are, or ssh would.

    Raises:
        UsageInvalid: the file cannot be written.
    """
    if fetched.known:
        return
    path = Path(os.path.expanduser(fetched.file))
    try:
        if path.exists() and not path.is_file():
            raise UsageInvalid(
                f"{path} is not a file, and nothing can be remembered there: ssh_config's UserKnownHostsFile "
                f"for {fetched.alias}. Host keys are always checked, whatever StrictHostKeyChecking says",
                hint=f"ssh -G {quote(fetched.alias)} | grep -i knownhosts   # set UserKnownHostsFile for it",
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = path.read_bytes() if path.exists() else b""
        line = f"{_spelled(fetched.name, present, fetched.hashed)} {fetched.key}\n".encode()
        if present and not present.endswith(b"\n"):
            line = b"\n" + line
        # One write to a file opened for appending: two commands at once do not mix their lines.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageInvalid(f"{path}: {error.strerror}", hint=f"ls -l {quote(str(path))}") from error


def _spelled(name: str, present: bytes, hashed: bool) -> str:
    """The name as it goes into the file; in ssh-keygen -H's form where it, or most names, are hashed."""
    names = [line for line in present.splitlines() if line.strip() and not line.startswith((b"#", b"@"))]
    if not hashed and sum(line.startswith(b"|1|") for line in names) * 2 <= len(names):
        return name
    salt = secrets.token_bytes(20)
    return f"|1|{b64encode(salt).decode()}|{b64encode(digest(salt, name.encode(), sha1)).decode()}"
