from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from rbee_ssh.inventory import Node, parse
from rbee_ssh.inventory.syntax import dotted
from rbee_ssh.inventory.untrusted import forbidden, is_this_machine, owner_problem

NAMES = {"mybox.lan", "mybox"}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "mybox",
        "MyBox.lan",
        "127.0.0.1",
        "127.9.9.9",
        "127.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "0:0:0:0:0:0:0:1",
        "::1%lo",
    ],
)
def test_ways_to_say_this_machine(host: str) -> None:
    assert is_this_machine(Node(name="n", host=host), NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "128.0.0.1",
        "box",
        "mybox2",
        "box.localdomain",
        "localhost.example.org",
        "fe80::1",
        "::2",
        "",
        "::ffff:10.0.0.1",
    ],
)
def test_other_machines(host: str) -> None:
    assert not is_this_machine(Node(name="n", host=host), NAMES)


def keys(text: str) -> list[str]:
    inventory = parse(text, Path("/x/inventory.toml"))
    return [dotted(where) for where, _ in forbidden(tomllib.loads(text), inventory, NAMES)]


HERE = "[nodes.here]\nhost = 'localhost'\n"
THERE = "[nodes.there]\nhost = 'there'\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HERE + THERE, []),
        ("", []),
        # setup runs on this machine, for whichever node it is
        (THERE + "setup = ['r.py:x']", ["nodes.there.setup"]),
        (THERE + "setup = []", ["nodes.there.setup"]),
        ("[defaults]\nsetup = ['r.py:x']\n" + THERE, ["defaults.setup"]),
        # what runs on this machine
        (HERE + "engine_path = '/x'", ["nodes.here.engine_path"]),
        (HERE + "python = '/x'", ["nodes.here.python"]),
        (HERE + "env = { LD_PRELOAD = '/x' }", ["nodes.here.env"]),
        (HERE + "port = 22\nenv.A = '1'", ["nodes.here.env"]),
        (HERE.replace("localhost", "127.0.0.1") + "user = 'me'\npython = '/x'", ["nodes.here.python"]),
        ("[models.m]\nsource = 'x'\nargs = ['--log-file', 'x']\n" + HERE, ["models.m.args"]),
        # the defaults reach this machine too, even when no node is written down
        (
            "[defaults]\nengine_path = '/x'\npython = '/y'\nenv.A = '1'",
            ["defaults.engine_path", "defaults.python", "defaults.env"],
        ),
        ("[defaults]\nenv.A = '1'\n" + HERE, ["defaults.env"]),
        ("[defaults]\nhost = 'localhost'\n[nodes.a]\npython = '/x'", ["nodes.a.python"]),
        ("[models.m]\nsource = 'x'\nargs = ['-x']", ["models.m.args"]),
        # what runs elsewhere, and what runs nothing
        (THERE + "engine_path = '/x'\npython = '/x'\nenv.A = '1'", []),
        ("[defaults]\nengine_path = '/x'\nenv.A = '1'\n" + THERE, []),
        ("[models.m]\nsource = 'x'\nargs = ['-x']\n" + THERE, []),
        ("[models.m]\nsource = 'x'\nargs = []\ncontext = 1\n" + HERE, []),
        (HERE + "backend = 'cpu'\nlease = 5\nmodels_dir = '/x'\n" + THERE + "env.A = '1'", []),
    ],
)
def test_what_only_a_named_inventory_may_set(text: str, found: list[str]) -> None:
    assert keys(text) == found


FILE = stat.S_IFREG


@pytest.mark.parametrize(
    ("mode", "owner", "link", "problem"),
    [
        (FILE | 0o644, 1000, 1000, None),
        (FILE | 0o400, 1000, 1000, None),
        (FILE | 0o664, 1000, 1000, "others may write it (mode 0664)"),
        (FILE | 0o646, 1000, 1000, "others may write it (mode 0646)"),
        (FILE | 0o644, 0, 1000, "it belongs to user id 0, not to you (1000)"),
        (FILE | 0o644, 1000, 1001, "it belongs to user id 1001, not to you (1000)"),
        (stat.S_IFIFO | 0o600, 1000, 1000, "it is not a regular file"),
        (stat.S_IFDIR | 0o700, 1000, 1000, "it is not a regular file"),
    ],
)
def test_whose_word_a_file_is(mode: int, owner: int, link: int, problem: str | None) -> None:
    assert owner_problem(mode, owner, link, 1000) == problem
