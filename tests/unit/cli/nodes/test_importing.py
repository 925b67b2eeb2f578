"""`rbee nodes import`: what is picked from the list, and what the nodes are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.nodes.importing import check_known, node_names, selection
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.inventory.readers import name_problem
from rbee_ssh.ssh.config import Hosts

OFFERED = ("gpu1", "gpu2", "7", "nas", "laptop")


@pytest.mark.parametrize(
    ("answer", "picked"),
    [
        ("", []),
        ("1 3-4,gpu2", ["gpu1", "7", "nas", "gpu2"]),
        ("All", list(OFFERED)),
        ("7", ["7"]),  # a name comes before a number
        ("2-2, 2 gpu2", ["gpu2"]),
    ],
)
def test_what_is_picked(answer: str, picked: list[str]) -> None:
    assert selection(answer, OFFERED) == picked


@pytest.mark.parametrize("answer", ["0", "6", "3-2", "1-99", "gpu", "-1", "1;2"])
def test_what_is_none_of_them(answer: str) -> None:
    with pytest.raises(ValueError, match=r"there are 1 to 5|none of them"):
        selection(answer, OFFERED)


def test_names() -> None:
    assert node_names(["gpu1", "a:b", ".x", "größe", "gpu1 "], {"gpu1": 0, "gpu1-2": 0}) == {
        "gpu1-3": "gpu1",
        "a-b": "a:b",
        "x": ".x",
        "größe": "größe",
        "gpu1-": "gpu1 ",
    }


@given(st.lists(st.text(min_size=1), unique=True, max_size=5), st.sets(st.text(max_size=3)))
def test_every_alias_gets_a_name_of_its_own(aliases: list[str], taken: set[str]) -> None:
    names = node_names(aliases, dict.fromkeys(taken))
    assert list(names.values()) == aliases
    assert not names.keys() & taken
    assert [name_problem(name) for name in names] == [None] * len(aliases)


def test_a_host_that_ssh_config_does_not_have() -> None:
    known = Hosts(("gpu1",), ("lab-*",))
    check_known(["gpu1", "lab-1"], known)
    with pytest.raises(UsageInvalid, match="did you mean"):
        check_known(["gpu2"], known)
