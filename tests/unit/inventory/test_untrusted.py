from __future__ import annotations

import stat
import tomllib

import pytest

from rbee_ssh.inventory import parse, schema
from rbee_ssh.inventory.faults import dotted
from rbee_ssh.inventory.untrusted import DECIDES, FOUND_MAY, owner_problem, set_too_much


def keys(text: str) -> list[str]:
    parse(text, None)
    return [dotted(fault.where) for fault in set_too_much(tomllib.loads(text), text)]


# Every key there is. A new one has to be put on either side: on the second unless it can only name things.
MAY = {
    "defaults": {"model", "idle_timeout"},
    "nodes": {"host", "tags", "engine", "backend", "device", "lease"},
    "models": {"source", "context", "parallel"},
    "timeouts": {
        *("connect", "connect_tries", "keepalive", "http_connect", "start", "load", "load_per_gib"),
        *("first_token", "between_tokens", "drain", "term", "registry_lock"),
        *("download_tries", "download_wait", "download_stall"),
    },
}
MUST_BE_ALLOWED = {
    "nodes": {
        *("port", "user", "identity_file", "jump"),
        *("engine_path", "python", "models_dir", "env", "listen", "setup"),
    },
    "models": {"args"},
}


def test_every_key_is_decided_on() -> None:
    assert set(schema.SECTIONS) == set(MAY)
    assert set(schema.NODE) == MAY["nodes"] | MUST_BE_ALLOWED["nodes"]
    assert set(schema.DEFAULTS) == set(schema.NODE) | MAY["defaults"]
    assert set(schema.MODEL) == MAY["models"] | MUST_BE_ALLOWED["models"]
    assert set(schema.TIMEOUTS) == MAY["timeouts"]
    assert MAY | {"defaults": MAY["nodes"] | MAY["defaults"]} == {**FOUND_MAY}
    assert set(DECIDES) == MUST_BE_ALLOWED["nodes"] | MUST_BE_ALLOWED["models"]


HERE = "[nodes.here]\nhost = 'localhost'\n"
THERE = "[nodes.there]\nhost = 'there'\n"
VALUES = {"port": "22", "jump": "[]", "env": "{}", "setup": "[]", "listen": "'tcp'"}


@pytest.mark.parametrize("key", sorted(MUST_BE_ALLOWED["nodes"]))
def test_what_a_node_must_be_allowed(key: str) -> None:
    """Wherever it is, and also where it changes nothing."""
    line = f"{key} = {VALUES.get(key, repr('/x'))}"
    assert keys(HERE + line) == [f"nodes.here.{key}"]
    assert keys(THERE + line) == [f"nodes.there.{key}"]
    assert keys(f"[defaults]\n{line}\n{THERE}") == [f"defaults.{key}"]
    assert keys(f"[defaults]\n{line}") == [f"defaults.{key}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (HERE + THERE + "tags = ['a']\nengine = 'xllamacpp'\nbackend = 'cpu'\ndevice = '0'\nlease = 5", []),
        ("[defaults]\nhost = 'h'\nmodel = 'm'\nidle_timeout = 0\n[nodes.a]\n[timeouts]\nload = 1", []),
        ("[models.m]\nsource = 'x'\ncontext = 1\nparallel = 2", []),
        ("[models.m]\nsource = 'x'\nargs = ['--log-file', 'x']\n" + THERE, ["models.m.args"]),
        (THERE + "port = 22\nenv.A = '1'", ["nodes.there.port", "nodes.there.env"]),
        (THERE + "user = 'u'\n[defaults]\nenv.A = '1'", ["nodes.there.user", "defaults.env"]),
        ("nodes.a = { host = 'a', user = 'u' }\ndefaults.python = '/x'", ["nodes.a.user", "defaults.python"]),
    ],
)
def test_what_must_be_allowed(text: str, found: list[str]) -> None:
    assert keys(text) == found


def test_what_nobody_has_decided_on_must_be_allowed() -> None:
    new = {"serve": {"port": 80}, "nodes": {"a": {"host": "a", "wake": "aa:bb"}}, "defaults": {"new": 1}}
    told = {dotted(fault.where) for fault in set_too_much(new, "")}
    assert told == {"serve.port", "nodes.a.wake", "defaults.new"}


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
