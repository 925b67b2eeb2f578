"""Hosts, users, hops and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory import Inventory, parse

FILE = Path("/etc/lab/inventory.toml")
HOME = Path("/home/me")


def read(text: str) -> Inventory:
    return parse(text, FILE, home=HOME)


def faults(text: str) -> dict[str, str]:
    """Key path → problem, of an inventory that must be refused."""
    with pytest.raises(InventoryInvalid) as caught:
        read(text)
    assert caught.value.exit_status == 2
    return {fault["key"]: fault["problem"] for fault in caught.value.details["faults"]}


@pytest.mark.parametrize("key", ["host", "user", "jump"])
@pytest.mark.parametrize(
    "word",
    [
        "-oProxyCommand=x",
        "a b",
        "a\\tb",
        "a\\nb",
        "a\\u0000b",
        "a\\u001bb",
        "a\\u00a0b",
        "$(x)`",
        "a;b",
        "a|b",
        "",
        "a'b",
        "a&b",
        "<a>",
        "(a)",
        "a\\u009bb",
        "x" * 256,
    ],
)
def test_words_that_could_become_an_option_or_a_command_are_refused(key: str, word: str) -> None:
    table = {"host": '"a"', "user": '"u"', "jump": '"g"'} | {key: f'"{word}"'}
    found = faults("[nodes.a]\n" + "\n".join(f"{name} = {value}" for name, value in table.items()))
    assert [path.partition("[")[0] for path in found] == [f"nodes.a.{key}"]


@pytest.mark.parametrize(
    "hop", ["me@-h", "-me@h", "@h", "h:", "h:0", "h:65536", "h:ssh", "a,,b", "fe80::1", "[::1", "a,"]
)
def test_hops_that_are_none(hop: str) -> None:
    assert list(faults(f"[nodes.a]\nhost = 'a'\njump = '{hop}'")) == ["nodes.a.jump"]


@pytest.mark.parametrize("host", ["*", "i-*", "box?", "a[b]", "*/*"])
def test_a_host_that_a_shell_would_take_for_file_names(host: str) -> None:
    """In `ProxyCommand sh -c "… %h"`: the names of files that lie in the current directory, `-e` as well."""
    assert "not a pattern" in faults(f"[nodes.a]\nhost = '{host}'")["nodes.a.host"]
    assert list(faults(f"[nodes.a]\nhost = 'a'\njump = '{host}'")) == ["nodes.a.jump"]


def test_hops_in_one_string() -> None:
    assert read("[nodes.a]\nhost = 'a'\njump = 'b, me@c:22,ssh://d'").nodes["a"].jump == (
        "b",
        "me@c:22",
        "ssh://d",
    )


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "fe80::1%eth0", "my_alias", "lab/box", "größe.example"])
def test_hosts_that_will_do(host: str) -> None:
    assert read(f"[nodes.a]\nhost = '{host}'").nodes["a"].host == host


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("me@box", 'host = "box" and user = "me"'),
        ("box:2222", 'host = "box" and port = 2222'),
        ("[::1]", "without brackets"),
        ("a,b", "one host"),
    ],
)
def test_a_host_with_more_than_a_host_in_it(host: str, advice: str) -> None:
    assert advice in faults(f"[nodes.a]\nhost = '{host}'")["nodes.a.host"]


@pytest.mark.parametrize("name", ["a", "gpu-1", "a.b_c", "0", "_x", "Büro", "机器", "कंप्यूटर", "x" * 100])
def test_names_that_will_do(name: str) -> None:
    assert list(read(f"[nodes.\"{name}\"]\nhost = 'a'").nodes) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        ".",
        "..",
        ".a",
        "a b",
        "a/b",
        "a\\\\b",
        "a:b",
        "a,b",
        "a;b",
        "$a",
        "a\\n",
        "\\u0000",
        "\\u001b[31m",
        "🐝",
        "a\\u200b",
        "\\u0301a",
        "x" * 101,
        "ä" * 51,
        "*",
        "~",
        "a@b",
    ],
)
@pytest.mark.parametrize("section", ["nodes", "models"])
def test_names_that_are_refused(section: str, name: str) -> None:
    key = "host" if section == "nodes" else "source"
    found = faults(f"[{section}.\"{name}\"]\n{key} = 'a'")
    assert len(found) == 1
    assert "expected a name" in next(iter(found.values()))


def test_a_preset_is_not_named_like_a_file() -> None:
    assert "does not end in .gguf" in faults("[models.\"a.gguf\"]\nsource = 'x'")['models."a.gguf"']
