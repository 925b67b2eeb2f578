"""One login: which keys are offered, which host key is accepted, which ciphers are asked for."""

from __future__ import annotations

import logging
import platform
import time
from typing import Any

from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh import destination, identities, known_hosts
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.known_hosts import KnownHosts
from rbee_ssh.ssh.lean import asyncssh, streamline

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
            from rbee_ssh.ssh.refusals import host_key_refused

            raise host_key_refused(
                target, known, client.presented, error, client.address, client.certificate
            ) from error
        except asyncssh.PermissionDenied as error:
            from rbee_ssh.ssh.refusals import auth_failed

            raise auth_failed(target, offered.files, offered.agent, error) from error
        except asyncssh.DisconnectError as error:
            from rbee_ssh.ssh.refusals import auth_failed, too_many

            if too_many(error):
                raise auth_failed(target, offered.files, offered.agent, error) from error
            raise
