"""How a user's key signs in a login."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rbee_ssh.errors import AuthFailed
from rbee_ssh.inventory import Node, Timeouts
from rbee_ssh.ssh import destination
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.login import login


class Everybody(asyncssh.SSHServer):
    """Lets in whoever signs with whatever key."""

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True


@pytest.mark.parametrize(
    ("accepted", "gets_in"), [("rsa-sha2-512", True), ("rsa-sha2-256", True), ("ssh-rsa", False)]
)
def test_an_rsa_key_never_signs_with_sha1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: str, gets_in: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(destination, "SYSTEM_CONFIG", tmp_path / "system")
    (tmp_path / ".ssh").mkdir()
    asyncssh.generate_private_key("ssh-rsa").write_private_key(str(tmp_path / ".ssh/id_rsa"))
    (tmp_path / ".ssh/id_rsa").chmod(0o600)
    key = asyncssh.generate_private_key("ssh-ed25519")

    async def body() -> None:
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], server_factory=Everybody, signature_algs=[accepted]
        )
        port = server.get_port()
        public = key.export_public_key("openssh").decode()
        (tmp_path / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
        try:
            ssh = await login(destination.of_node(Node("n", "127.0.0.1", port=port)), None, Timeouts())
            ssh.close()
            await ssh.wait_closed()
        finally:
            server.close()
            await server.wait_closed()

    if gets_in:
        asyncio.run(body())
    else:
        with pytest.raises(AuthFailed):
            asyncio.run(body())
