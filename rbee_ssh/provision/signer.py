"""A key that paramiko offers and asyncssh signs with: of a file in any format, of the agent, certified.

So paramiko opens no key file and no agent, and what is offered is what asyncssh has offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator

from paramiko import PKey
from paramiko.auth_strategy import AuthSource, AuthStrategy, InMemoryPrivateKey

from rbee_ssh.provision.transport import SshTransport
from rbee_ssh.ssh.lean import asyncssh

# What an agent may take to sign; somebody may have to touch a token or answer a question.
SIGN_SECONDS = 60.0


class Signer(PKey):  # type: ignore[misc]
    """One of the offered keys, as paramiko's auth_handler uses a key."""

    def __init__(self, pair: asyncssh.SSHKeyPair, loop: asyncio.AbstractEventLoop) -> None:
        self.public_blob = None
        self._pair = pair
        self._loop = loop

    def get_name(self) -> str:
        return self._pair.get_algorithm()

    def asbytes(self) -> bytes:
        return self._pair.public_data

    def can_sign(self) -> bool:
        return True

    def get_fingerprint(self) -> bytes:
        return self._pair.public_data[-32:]

    def __repr__(self) -> str:
        return f"Signer({self.get_name()})"

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Called in paramiko's thread; the signature as SSH encodes it."""
        if algorithm and "rsa" in algorithm:
            self._pair.set_sig_algorithm(algorithm.removesuffix("-cert-v01@openssh.com").encode())
        if self._pair.get_key_type() != "agent":
            return self._pair.sign(data)
        # Of the agent's keys only, as asyncssh itself asks for it.
        sign: Callable[[bytes], Coroutine[None, None, bytes]] = self._pair.sign_async  # type: ignore[attr-defined]
        asked = asyncio.run_coroutine_threadsafe(sign(data), self._loop)
        try:
            return asked.result(SIGN_SECONDS)
        except (TimeoutError, ValueError, OSError, asyncssh.Error) as error:
            from paramiko import AuthenticationException

            raise AuthenticationException(f"the agent did not sign: {error}") from error


class Offered(AuthStrategy):  # type: ignore[misc]
    """The keys of a transport, one after the other."""

    def __init__(self, transport: SshTransport) -> None:
        super().__init__(ssh_config=None)
        self._transport = transport

    def get_sources(self) -> Iterator[AuthSource]:
        for pair in self._transport.keys:
            yield InMemoryPrivateKey(self._transport.user, Signer(pair, self._transport.loop))
