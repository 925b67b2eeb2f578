"""Why a login was refused, and what to type: a host key that nobody trusts, no key of ours accepted."""

from __future__ import annotations

import asyncio
from typing import Any

from rbee_ssh.errors import AuthFailed, HostKeyChanged, HostKeyUnknown
from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh import known_hosts
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.identities import Agent, Identities
from rbee_ssh.ssh.known_hosts import KnownHosts
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.quote import quote, ssh_words


async def complaint(target: Destination, timeouts: Timeouts) -> str:
    """What a server that hangs up says in plain text (Exceeded MaxStartups): asyncssh passes it over."""
    if target.hops or target.proxy_command:
        return ""
    try:
        async with asyncio.timeout(timeouts.connect):
            reader, writer = await asyncio.open_connection(target.host, target.port)
            try:
                greeting = await reader.read(200)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
    return "" if greeting.startswith(b"SSH-") else " ".join(greeting.decode("utf-8", "replace").split())


def host_key_refused(
    target: Destination,
    entries: KnownHosts,
    presented: asyncssh.SSHKey | None,
    error: asyncssh.Error,
    address: str = "",
    certificate: str = "",
) -> HostKeyUnknown | HostKeyChanged:
    """HostKeyChanged when the key is revoked or known_hosts holds another one for this host.

    Args:
        address: the one that was connected to, "" through a jump host. What stands under it counts for
            nothing, and is told: ssh-keyscan and older versions have left keys there.
        certificate: what is wrong with the certificate that came with the key.
    """
    name = target.key_entry
    addresses = known_hosts.names_of(address, target.port) if address else ()
    fingerprint = presented.get_fingerprint() if presented is not None else None
    kind = presented.get_algorithm() if presented is not None else None
    trust = to_trust(target)
    refused = f"; its certificate was refused: {certificate}" if certificate else ""
    details: dict[str, Any] = target.details | {"fingerprint": fingerprint, "key_type": kind}
    if "revoked" in error.reason:
        revoked = entries.trusted(target.key_names, addresses).revoked
        where = next((entry for entry in revoked if presented is None or entry.key == presented), None)
        line = f": {where.file} line {where.line}" if where else ""
        return HostKeyChanged(
            f"the host key of node {target.label!r} ({name}) is revoked{line}. Nothing was sent to it",
            hint=f"sed -n {where.line}p {quote(where.file)}   # and ask who revoked it" if where else None,
            details={**details, "file": where and where.file, "line": where and where.line},
        )
    # What stands for port 22 says nothing of another one, where a container may answer.
    known = entries.trusted(target.key_names[:1]).keys
    if known and presented is not None:
        where = next((one for one in known if one.key_type == kind), known[0])
        remove = f"ssh-keygen -R {quote(name)} -f {quote(where.file)} && {trust}"
        if where.for_many:  # the whole line would be gone
            edit = f"${{EDITOR:-vi}} +{where.line} {quote(where.file)}"
            remove = f"{edit}   # append ,!{name} to its names; then: {trust}"
        return HostKeyChanged(
            f"the host key of node {target.label!r} ({name}) has changed: it presents {kind} {fingerprint}, "
            f"and {where.file} line {where.line} has {where.key_type} {where.fingerprint}"
            f"{refused}. Nothing was sent to it",
            hint=f"if you know why it changed: {remove}",
            details=details
            | {"known_fingerprint": where.fingerprint, "file": where.file, "line": where.line},
        )
    if presented is None:
        return HostKeyUnknown(
            f"the host key of node {target.label!r} ({name}) is not trusted: "
            + error.reason.partition(" for host ")[0],
            hint=trust,
            details=details,
        )
    message = f"the host key of node {target.label!r} ({name}) is not in known_hosts: {kind} {fingerprint}"
    if elsewhere := known_hosts.known_as(entries, presented, addresses):
        message += f"; this very key is known as {known_hosts.told(*elsewhere)}, but only its own name counts"
        details |= {"known_as": elsewhere[0], "file": elsewhere[1].file, "line": elsewhere[1].line}
    return HostKeyUnknown(message + refused, hint=trust, details=details)


def to_trust(target: Destination) -> str:
    """What to type to have the key of a node or a hop trusted."""
    if target.in_inventory:
        return f"rbee nodes trust {quote(target.label)}"
    return f"ssh {_words(target)}   # compare the fingerprint, and answer yes"


def auth_failed(
    target: Destination, keys: Identities, agent: Agent, error: asyncssh.DisconnectError
) -> AuthFailed:
    """AuthFailed with every key that was tried or skipped, and the likely way out."""
    tried = [*(f"agent: {key.get_comment() or 'unnamed key'}" for key in agent.keys), *keys.offered]
    parts = [f"node {target.label!r} accepted no key for user {target.user!r} at {target.host}"]
    if not target.user_named:
        parts.append("neither the inventory nor ~/.ssh/config names a user for it, so it was your own name")
    if too_many(error):
        parts.append("it gave up after too many of them")
    parts.append("tried " + ", ".join(tried) if tried else "there was no key to try")
    if keys.skipped:
        parts.append("skipped " + "; ".join(f"{path} ({why})" for path, why in keys.skipped))
    if not agent.keys:
        parts.append(agent.problem or "no SSH agent, or an empty one")
    encrypted = next((path for path, why in keys.skipped if why.startswith("encrypted")), None)
    if too_many(error):
        hint = (
            f"set identity_file for node {target.label} in the inventory: then that key alone is offered"
            if target.in_inventory
            else f"set IdentityFile and IdentitiesOnly yes for {target.alias} in ~/.ssh/config"
        )
    elif encrypted is not None:
        hint = f"ssh-add {quote(encrypted)}"
    elif keys.offered:
        hint = f"ssh-copy-id -i {quote(keys.offered[0])} {_words(target)}"
    else:
        hint = f"ssh {_words(target)}   # and see which key it uses"
    return AuthFailed(
        "; ".join(parts),
        hint=hint,
        details={
            "node": target.label,
            "user": target.user,
            "host": target.host,
            "tried": tried,
            "skipped": [{"path": path, "why": why} for path, why in keys.skipped],
            "reason": error.reason,
        },
    )


def too_many(error: asyncssh.DisconnectError) -> bool:
    """Whether sshd hung up because of MaxAuthTries; asyncssh takes that for a broken protocol."""
    return "too many authentication failures" in error.reason.lower()


def _words(target: Destination) -> str:
    return ssh_words(f"{target.user}@{target.host}", target.port)
