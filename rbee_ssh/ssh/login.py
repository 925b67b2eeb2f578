"""One login: which keys are offered, which host key is accepted, which ciphers are asked for."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Sequence
from typing import Any

from rbee_ssh.errors import AuthFailed, HostKeyChanged, HostKeyUnknown
from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh import destination, identities, known_hosts
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.identities import Agent, Identities
from rbee_ssh.ssh.lean import asyncssh, streamline
from rbee_ssh.ssh.quote import quote

# With keepalive_count_max N asyncssh gives up after N + 1 intervals: 45 s at the default of 15.
KEEPALIVE_COUNT = 2
# AES-GCM moves 1.5 times the bytes of asyncssh's default ChaCha20 where the CPU has AES.
_AES_MACHINES = frozenset({"x86_64", "amd64", "arm64", "aarch64"})
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)


class _Client(asyncssh.SSHClient):
    """Remembers a host key that known_hosts does not hold, and never accepts one."""

    def __init__(self) -> None:
        self.presented: asyncssh.SSHKey | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        # When the network had brought us there; the rest of the way in is SSH's.
        conn.set_extra_info(rbee_reached=time.monotonic())

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.presented = key
        return False


async def login(
    target: Destination, tunnel: asyncssh.SSHClientConnection | None, timeouts: Timeouts
) -> asyncssh.SSHClientConnection:
    """Connect and authenticate, once.

    Args:
        tunnel: the connection to the last hop; None goes there directly.

    Raises:
        HostKeyUnknown, HostKeyChanged: before anything of ours was sent.
        AuthFailed: with the keys that were tried.
        OSError, asyncssh.Error: the network's, or the server's.
        ValueError, OverflowError: a host or a port that is none.
    """
    entries = known_hosts.read(target.known_hosts_files)
    known = known_hosts.load(entries)
    client = _Client()
    options: dict[str, Any] = {}
    if not target.ciphers_configured and platform.machine().lower() in _AES_MACHINES:
        options["encryption_algs"] = list(_CIPHERS)
    if not target.compression_configured:
        # asyncssh leaves that to the server, and unpacks whatever a packet becomes: 100 KiB may be 100 MiB.
        options["compression_algs"] = ["none"]
    if target.key_name != target.host:
        options["host_key_alias"] = target.key_name
    if not target.host_keys_configured:
        options["server_host_key_algs"] = known_hosts.algorithms(known, target.key_name, target.port)
    async with identities.offer(target) as offered:
        try:
            ssh = await asyncssh.connect(
                target.alias,
                target.port,
                tunnel=tunnel,
                username=target.user,
                config=destination.config_files(),
                client_factory=lambda: client,
                # None, not an empty list: for that asyncssh would read the default files by itself.
                client_keys=list(offered.keys) or None,
                client_certs=identities.certificates(target.certificate_files),
                agent_path=None,
                pkcs11_provider=None,
                known_hosts=known,
                public_key_auth=True,
                preferred_auth=["publickey"],
                connect_timeout=timeouts.connect,
                login_timeout=timeouts.connect * 2,
                keepalive_interval=timeouts.keepalive,
                keepalive_count_max=KEEPALIVE_COUNT,
                gss_host=None,
                agent_forwarding=False,
                x11_forwarding=False,
                request_pty=False,
                command=None,
                **options,
            )
            streamline(ssh)
            return ssh
        except asyncssh.HostKeyNotVerifiable as error:
            raise host_key_refused(target, entries, client.presented, error) from error
        except asyncssh.PermissionDenied as error:
            raise auth_failed(target, offered.files, offered.agent, error) from error
        except asyncssh.DisconnectError as error:
            if too_many(error):
                raise auth_failed(target, offered.files, offered.agent, error) from error
            raise


async def complaint(target: Destination, timeouts: Timeouts) -> str:
    """What a server that hangs up says in plain text (Exceeded MaxStartups): asyncssh passes it over."""
    if target.hops or target.proxy_command:
        return ""
    try:
        async with asyncio.timeout(timeouts.connect):
            reader, writer = await asyncio.open_connection(target.host, target.port)
            try:
                said = await reader.read(200)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
    return "" if said.startswith(b"SSH-") else " ".join(said.decode("utf-8", "replace").split())


def host_key_refused(
    target: Destination,
    entries: Sequence[tuple[str, int, str]],
    presented: asyncssh.SSHKey | None,
    error: asyncssh.Error,
) -> HostKeyUnknown | HostKeyChanged:
    """HostKeyChanged when the key is revoked or known_hosts holds another one for this host."""
    name = target.key_entry
    known = known_hosts.keys_of(entries, target.key_entry)
    fingerprint = presented.get_fingerprint() if presented is not None else None
    kind = presented.get_algorithm() if presented is not None else None
    trust = (
        f"rbee nodes trust {quote(target.label)}"
        if target.in_inventory
        else f"ssh {_words(target)}   # compare the fingerprint, and answer yes"
    )
    details = {
        "node": target.label,
        "host": target.host,
        "port": target.port,
        "fingerprint": fingerprint,
        "key_type": kind,
    }
    if "revoked" in error.reason:
        where = next((key for key in known if key.revoked), None)
        line = f": {where.file} line {where.line}" if where else ""
        return HostKeyChanged(
            f"the host key of node {target.label!r} ({name}) is revoked{line}. Nothing was sent to it",
            hint=f"sed -n {where.line}p {quote(where.file)}   # and ask who revoked it" if where else None,
            details={**details, "file": where and where.file, "line": where and where.line},
        )
    known = [key for key in known if not key.revoked]
    if known and presented is not None:
        where = known[0]
        return HostKeyChanged(
            f"the host key of node {target.label!r} ({name}) has changed: it presents {kind} {fingerprint}, "
            f"and {where.file} line {where.line} has {where.key_type} {where.fingerprint}. "
            "Nothing was sent to it",
            hint=f"if you know why it changed: ssh-keygen -R {quote(name)} -f {quote(where.file)} && {trust}",
            details={
                **details,
                "known_fingerprint": where.fingerprint,
                "file": where.file,
                "line": where.line,
            },
        )
    if presented is None:
        return HostKeyUnknown(
            f"the host key of node {target.label!r} ({name}) is not trusted: "
            + error.reason.partition(" for host ")[0],
            hint=trust,
            details=details,
        )
    return HostKeyUnknown(
        f"the host key of node {target.label!r} ({name}) is not in known_hosts: {kind} {fingerprint}",
        hint=trust,
        details=details,
    )


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
    """What a user types behind `ssh` to get there."""
    port = f"-p {target.port} " if target.port != 22 else ""
    return port + quote(f"{target.user}@{target.host}")
