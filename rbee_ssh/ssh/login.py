"""One login: which keys are offered, which host key is accepted, which ciphers are asked for."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from typing import Any

from rbee_ssh.errors import AuthFailed, HostKeyChanged, HostKeyUnknown
from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh import destination, identities, known_hosts
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.identities import Agent, Identities
from rbee_ssh.ssh.known_hosts import KnownHosts
from rbee_ssh.ssh.lean import asyncssh, streamline
from rbee_ssh.ssh.quote import quote, ssh_words

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

log = logging.getLogger("rbee.ssh")

_Keys = list[asyncssh.SSHKey]


class _Client(asyncssh.SSHClient):
    """Looks a host key up in known_hosts by its host's name, and accepts no other.

    Attributes:
        presented: the key that was not accepted.
        address: the one that was connected to; "" through a jump host or a program.
        certificate: why the host's certificate was not accepted.
    """

    def __init__(self, target: Destination, known: KnownHosts) -> None:
        self._target, self._known = target, known
        self._algorithms: list[str] = []
        self.presented: asyncssh.SSHKey | None = None
        self.address = self.certificate = ""

    def lookup(self, host: str, address: str, port: int | None) -> tuple[_Keys, _Keys, _Keys]:
        """Asked by asyncssh, which knows the canonical name: keys, authorities and revoked keys."""
        # Not by the address: whoever has that would be whoever the name says.
        names = known_hosts.names_of(host, port or 22, self._target.key_alias)
        self.address = address or ""
        addresses = known_hosts.names_of(address, port or 22) if address else ()
        trusted = self._known.trusted(names, addresses)
        self._algorithms = known_hosts.algorithms(trusted, self._target.host_key_algorithms)
        return (
            [entry.key for entry in trusted.keys],
            [entry.key for entry in trusted.authorities],
            [entry.key for entry in trusted.revoked],
        )

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        # When the network had brought us there; the rest of the way in is SSH's.
        conn.set_extra_info(rbee_reached=time.monotonic())
        conn._server_host_key_algs = [name.encode() for name in self._algorithms]
        certified = conn._validate_openssh_host_certificate

        def validate(host: str, addr: str, port: int, certificate: Any) -> asyncssh.SSHKey:
            # As OpenSSH: where the certificate does not do, its key is looked up as if it came without one.
            try:
                if known_hosts.signed_with_sha1(certificate):
                    raise ValueError("it is signed with SHA-1 (ssh-rsa)")
                return certified(known_hosts.canonical(host), addr, port, certificate)
            except ValueError as error:
                if "revoked" in str(error):
                    raise
                self.certificate = str(error)
                return conn._validate_host_key(host, addr, port, certificate.key.public_data)

        conn._validate_openssh_host_certificate = validate  # type: ignore[method-assign, assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        log.info("%s: %s", self._target.label, "closed" if exc is None else f"lost: {exc}")

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
    known = known_hosts.load(known_hosts.read(target.known_hosts_files))
    client = _Client(target, known)
    options: dict[str, Any] = {}
    if not target.ciphers_configured and platform.machine().lower() in _AES_MACHINES:
        options["encryption_algs"] = list(_CIPHERS)
    if not target.compression_configured:
        # asyncssh leaves that to the server, and unpacks whatever a packet becomes: 100 KiB may be 100 MiB.
        options["compression_algs"] = ["none"]
    async with identities.offer(target) as offered:
        log.debug("%s: login as %s, %d keys to offer", target.label, target.user, len(offered.keys))
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
                known_hosts=client.lookup,
                signature_algs=known_hosts.signatures(),
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
                # SendEnv and SetEnv would put a token into a worker's environment, where it stays.
                send_env=None,
                env=None,
                **options,
            )
            streamline(ssh)
            return ssh
        except asyncssh.HostKeyNotVerifiable as error:
            raise host_key_refused(
                target, known, client.presented, error, client.address, client.certificate
            ) from error
        except asyncssh.DisconnectError as error:
            if isinstance(error, asyncssh.PermissionDenied) or too_many(error):
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
