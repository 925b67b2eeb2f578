"""A host key compared with what was given."""

from __future__ import annotations

import pytest

from rbee_ssh.cli.nodes.host_keys import matches


@pytest.mark.parametrize(
    ("given", "same"), [("SHA256:abc", True), (" SHA256:abc=\n", True), ("SHA256:abd", False), ("", False)]
)
def test_fingerprints(given: str, same: bool) -> None:
    assert matches(given, "SHA256:abc") is same
