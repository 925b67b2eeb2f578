"""What `nodes setup` refuses, and its table."""

from __future__ import annotations

import pytest

from rbee_ssh.cli.nodes.setup import check, row
from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import SetupFailed, UsageInvalid
from rbee_ssh.fleet.setup import SetUp

FOUND = EngineFound("xllamacpp", "/home/ada/.local/share/rbee/venv/bin/python", "1")


def test_a_word_that_is_none_gets_the_nearest() -> None:
    check("--backend", "cuda", ("cpu", "cuda"))
    check("--backend", None, ("cpu", "cuda"))
    with pytest.raises(UsageInvalid) as caught:
        check("--backend", "cdua", ("cpu", "cuda"))
    assert caught.value.hint == "--backend cuda"


def test_a_line_for_each_node() -> None:
    assert row(SetUp("a", FOUND, True)) == ["a", "installed", "xllamacpp", "1", "cpu", FOUND.path]
    assert row(SetUp("b", FOUND))[1] == "there"
    assert row(SetUp("c", error=SetupFailed("no"))) == ["c", "failed", "", "", "", ""]
