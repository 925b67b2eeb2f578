"""One login: which keys are offered, which host key is accepted, which ciphers are asked for."""

from __future__ import annotations

import asyncio
import platform
import time
from typing import Any

from rbee_ssh.inventory import Timeouts
from rbee_ssh.ssh import destination, identities, known_hosts
from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.packets import streamline
from rbee_ssh.ssh.refusals import auth_failed, host_key_refused, too_many

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
                # SendEnv and SetEnv would put a token into a worker's environment, where it stays.
                send_env=None,
                env=None,
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
