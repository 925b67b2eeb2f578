"""Which private keys are offered to a node, and which are not and why.

asyncssh skips an encrypted key silently and does not look at a key file's mode; OpenSSH refuses a key that
others can read. So the files are judged here, and the judgement is what AUTH_FAILED reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh.ssh.destination import Destination
from rbee_ssh.ssh.lean import asyncssh

# What an agent may take to list its keys. One that hangs, or waits for somebody at its screen, costs this.
AGENT_SECONDS = 5.0
DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")


@dataclass(frozen=True, slots=True)
class Identities:
    """Keys to offer, in order, and the files that were left out, each with the reason."""

    keypairs: tuple[asyncssh.SSHKeyPair, ...]
    offered: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Agent:
    """The keys of the SSH agent, none without one; `problem` says what is the matter with it."""

    keys: tuple[asyncssh.SSHKeyPair, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class OfferedKeys:
    """What one login offers: `keys`, in order, and what they were taken from."""

    keys: tuple[asyncssh.SSHKeyPair, ...]
    files: Identities
    agent: Agent


@contextlib.asynccontextmanager
async def offer(target: Destination) -> AsyncIterator[OfferedKeys]:
    """The keys for one login. Those of the agent sign as long as the context is open."""
    paths = candidates(target.identity_file, target.identity_files)
    files = load(paths)
    named = target.identity_file is not None or bool(target.identity_files)
    # Only the named keys, also of the agent's: a full agent must not use up the server's MaxAuthTries.
    only = paths if target.identity_file is not None or target.identities_only else None
    async with agent(target.agent_path, only) as usable:
        keys = (*files.keypairs, *usable.keys) if named else (*usable.keys, *files.keypairs)
        yield OfferedKeys(keys, files, usable)


def candidates(explicit: Path | None, configured: Sequence[str] | None) -> list[Path]:
    """The files to look at: the inventory's key, else ssh_config's IdentityFile lines, else the defaults."""
    if explicit is not None:
        return [explicit]
    if configured is not None:
        return [_expanded(name) for name in configured]
    home = _expanded("~/.ssh")
    return [home / name for name in DEFAULT_NAMES if (home / name).exists()]


def load(files: Sequence[Path]) -> Identities:
    """Read the key files. None of this raises: what cannot be used is skipped with its reason."""
    keypairs: list[asyncssh.SSHKeyPair] = []
    offered: list[str] = []
    skipped: list[tuple[str, str]] = []
    for path in files:
        reason = _unusable(path)
        if reason is None:
            try:
                keypairs.extend(asyncssh.load_keypairs(str(path)))
                offered.append(str(path))
                continue
            except ValueError as error:
                # An encrypted key without a passphrase is reported as an import error of its own kind.
                if isinstance(error, asyncssh.KeyEncryptionError) or "passphrase" in str(error).lower():
                    reason = "encrypted, and no passphrase is asked for: ssh-add it to the agent"
                else:
                    reason = f"not a private key asyncssh reads: {error}"
            except OSError as error:
                reason = error.strerror or str(error)
        skipped.append((str(path), reason))
    return Identities(tuple(keypairs), tuple(offered), tuple(skipped))


def _unusable(path: Path) -> str | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    # OpenSSH's rule (authfile.c, sshkey_perm_ok): only for one's own files.
    if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077:
        return f"mode {stat.S_IMODE(status.st_mode):04o} lets others read it: chmod 600 {path}"
    return None


def certificates(files: Sequence[str]) -> list[asyncssh.SSHCertificate]:
    """The user certificates that ssh_config names beside those that are found beside their keys."""
    certificates: list[asyncssh.SSHCertificate] = []
    for name in files:
        with contextlib.suppress(OSError, ValueError):
            certificates.append(asyncssh.read_certificate(str(_expanded(name))))
    return certificates


@contextlib.asynccontextmanager
async def agent(path: str | None, only: Sequence[Path] | None) -> AsyncIterator[Agent]:
    """What the SSH agent offers, usable as long as the context is open.

    Args:
        path: of the agent's socket; SSH_AUTH_SOCK when None.
        only: key files; of the agent's keys just those that belong to one of them. None: all.
    """
    where = os.environ.get("SSH_AUTH_SOCK", "") if path is None else path
    async with contextlib.AsyncExitStack() as stack:
        keys: list[asyncssh.SSHKeyPair] = []
        problem = None
        if where and where.lower() != "none":
            try:
                async with asyncio.timeout(AGENT_SECONDS):
                    client = await stack.enter_async_context(asyncssh.connect_agent(str(_expanded(where))))
                    keys = list(await client.get_keys())
            except TimeoutError:
                problem = f"the SSH agent at {where} does not answer"
            except (OSError, ValueError, asyncssh.Error):
                problem = f"no SSH agent at {where}"
        if only is not None:
            public = {data for data in map(_public_data, only) if data is not None}
            keys = [key for key in keys if key.public_data in public]
        yield Agent(tuple(keys), problem)


def _expanded(name: str) -> Path:
    """As Path.expanduser, which raises for a user that does not exist."""
    return Path(os.path.expanduser(name))


def _public_data(path: Path) -> bytes | None:
    """The public half of a key file, from the file beside it: the private one may be encrypted."""
    for name in (path.with_name(path.name + ".pub"), path):
        with contextlib.suppress(OSError, asyncssh.KeyImportError, ValueError):
            return asyncssh.read_public_key(str(name)).public_data
    return None
