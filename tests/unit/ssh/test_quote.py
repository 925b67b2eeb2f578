"""What no shell can be given."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import UsageInvalid
from rbee_ssh.ssh.quote import quote


def test_nul_is_refused() -> None:
    with pytest.raises(UsageInvalid, match="NUL"):
        quote("a\0b")
