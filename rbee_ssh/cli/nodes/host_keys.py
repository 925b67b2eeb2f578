"""A host key that known_hosts does not have: shown, compared or agreed to, and only then written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rbee_ssh.cli.shapes import shape
from rbee_ssh.errors import HostKeyUnknown

if TYPE_CHECKING:
    from rbee_ssh.cli.console import Console
    from rbee_ssh.ssh.trust import PresentedKey


def agree(console: Console, fetched: PresentedKey, given: Sequence[str], command: str) -> None:
    """Return when the key may be trusted: it has a fingerprint that was given, or the user says yes.

    Args:
        given: fingerprints; with one nothing is asked, also of a key that is known already.
        command: what was typed, to be repeated with a fingerprint.

    Raises:
        HostKeyUnknown: the fingerprint is another one, the answer is no, or there is nobody to ask.
    """
    key = described(fetched)
    if given:
        if not any(matches(one, fetched.fingerprint) for one in given):
            raise refused(fetched, f"node {fetched.node} shows another host key than {given[0]}: {key}")
        return
    if fetched.known:
        return
    if fetched.known_as:
        key += f"; this very key is known as {fetched.known_as}"
    agreed = console.ask(f"{key}\nIs that the key of {fetched.node}?")
    if agreed is None:
        raise refused(
            fetched,
            f"there is no terminal to ask whether this is the key of node {fetched.node}: {key}",
            f"compare it, then: {command} --fingerprint {fetched.fingerprint}",
        )
    if not agreed:
        raise refused(fetched, f"the host key of node {fetched.node} was not trusted")


def matches(given: str, fetched: str) -> bool:
    """Whether a fingerprint is the one given; ssh-keygen writes its base64 without padding."""
    return given.strip().rstrip("=") == fetched.strip().rstrip("=")


def described(fetched: PresentedKey) -> str:
    return f"{fetched.host} port {fetched.port}: {fetched.key_type} {fetched.fingerprint}"


def refused(fetched: PresentedKey, message: str, hint: str | None = None) -> HostKeyUnknown:
    return HostKeyUnknown(message, hint=hint, details=details(fetched))


def details(fetched: PresentedKey) -> dict[str, Any]:
    return shape(fetched, "node host port key_type fingerprint file")
