"""What an inventory may not say, one fault at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory import parse

FILE = Path("/etc/lab/inventory.toml")
HOME = Path("/home/me")


def faults(text: str) -> dict[str, str]:
    """Key path → problem, of an inventory that must be refused."""
    with pytest.raises(InventoryInvalid) as caught:
        parse(text, FILE, home=HOME)
    assert caught.value.exit_status == 2
    return {fault["key"]: fault["problem"] for fault in caught.value.details["faults"]}


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        # types
        ("host = 7", "host", "expected an address or a Host of ssh_config, got an integer"),
        ("port = '22'", "port", "expected an integer from 1 to 65535, got a string"),
        ("port = true", "port", "got a boolean"),
        ("port = 22.0", "port", "got a number"),
        ("port = 2024-01-01", "port", "got a date or time"),
        ("tags = 'gpu'", "tags", "expected an array of tags, got a string"),
        ("tags = [['gpu']]", "tags[0]", "got an array"),
        ("jump = 7", "jump", "expected hops as in"),
        ("jump = [7]", "jump[0]", "got an integer"),
        ("env = ['A=1']", "env", "expected a table of variables, got an array"),
        ("env = { A = true }", "env.A", "expected a string, got a boolean"),
        ("lease = [1]", "lease", "expected seconds, or text like"),
        ("lease = true", "lease", "got a boolean"),
        ("device = 1.5", "device", "got a number"),
        ("setup = 'recipes.py:x'", "setup", "expected an array of Fabric tasks, got a string"),
        # ranges
        ("port = 0", "port", "from 1 to 65535, got 0"),
        ("port = 65536", "port", "from 1 to 65535, got 65536"),
        (f"port = {'0x' + 'f' * 5000}", "port", "got a far larger number"),
        ("lease = 0", "lease", "expected more than 0 seconds"),
        ("lease = -5", "lease", "from 0 to 3650 days, got -5"),
        ("lease = nan", "lease", "from 0 to 3650 days, got nan"),
        ("lease = inf", "lease", "from 0 to 3650 days, got inf"),
        ("lease = '5 minutes'", "lease", 'got "5 minutes"'),
        (f"lease = {'0x' + 'f' * 5000}", "lease", "got a far larger number"),
        ("device = -1", "device", "expected an index such as 0"),
        ("device = 'gpu0'", "device", "expected an index such as 0"),
        ("device = '0,0'", "device", "every index once"),
        # words
        ("backend = 'cudaa'", "backend", 'did you mean "cuda"?'),
        ("backend = 'gpu'", "backend", 'expected one of "auto", "cpu", "cuda", "rocm", "vulkan", "metal"'),
        ("engine = 'llama_server'", "engine", 'did you mean "llama-server"?'),
        ("listen = ''", "listen", "got an empty string"),
        ("engine_path = 'bin/llama-server'", "engine_path", "starts with / or ~/"),
        ("engine_path = '--help'", "engine_path", "leading '-'"),
        ("python = '-c'", "python", "leading '-'"),
        ("models_dir = 'models'", "models_dir", "starts with / or ~/"),
        ('models_dir = "/srv/\\nx"', "models_dir", "without control characters"),
        ('engine_path = "/a\\u0000b"', "engine_path", "without control characters"),
        ("identity_file = ''", "identity_file", "got an empty string"),
        ("identity_file = '~other/key'", "identity_file", "without '~'"),
        ("setup = ['recipes.py']", "setup[0]", 'a task such as "recipes.py:driver"'),
        ("tags = ['a b']", "tags[0]", "expected a name made of letters"),
        # the environment
        ("env = { 'A-B' = '1' }", "env.A-B", "expected a variable's name"),
        ("env = { '1A' = '1' }", "env.1A", "expected a variable's name"),
        ("env = { 'Ä' = '1' }", 'env."Ä"', "expected a variable's name"),
        ("env = { '' = '1' }", 'env.""', "expected a variable's name"),
        ('env = { "A\\n" = "1" }', 'env."A\\n"', "expected a variable's name"),
        ("env = { RBEE_WORKER = '1' }", "env.RBEE_WORKER", "are rbee's own"),
        ('env = { A = "1\\u0000" }', "env.A", "without NUL"),
        ("env = { A = 1.5 }", "env.A", "expected a string, got a number"),
        (f"env = {{ A = {'0x' + 'f' * 5000} }}", "env.A", "expected a string"),
    ],
)
def test_one_fault_of_a_node(line: str, key: str, problem: str) -> None:
    host = "" if line.startswith("host") else "host = 'a'\n"
    found = faults(f"[nodes.a]\n{host}{line}")
    assert list(found) == [f"nodes.a.{key}"]
    assert problem in found[f"nodes.a.{key}"]


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("[nodes.a]", "nodes.a", "`host` is missing"),
        ("[nodes]\nhost = 'a'", "nodes.host", "expected a table [nodes.NAME], got a string"),
        ("nodes = 1", "nodes", "expected a section, got an integer"),
        ("[[nodes]]\nhost = 'a'", "nodes", "expected a section, got an array"),
        ("[[nodes.a]]\nhost = 'a'", "nodes.a", "expected a table [nodes.NAME], got an array"),
        ("[node.a]\nhost = 'a'", "node", 'unknown section; did you mean "nodes"?'),
        ("host = 'a'", "host", "it belongs in [defaults] or [nodes.NAME]"),
        ("[nodes.a]\nhost = 'a'\nprot = 22", "nodes.a.prot", 'unknown key; did you mean "port"?'),
        ("[nodes.a]\nhost = 'a'\nmodels-dir = '/x'", "nodes.a.models-dir", 'did you mean "models_dir"?'),
        ("[nodes.a]\nhost = 'a'\nidle_timeout = 1", "nodes.a.idle_timeout", "it belongs in [defaults]"),
        ("[nodes.a]\nhost = 'a'\ncontext = 1", "nodes.a.context", "it belongs in [models.NAME]"),
        ("[nodes.a]\nhost = 'a'\nzzz = 1", "nodes.a.zzz", "unknown key; known are host, port"),
        ("[defaults]\nconect = 1", "defaults.conect", "unknown key"),
        ("[timeouts]\nconect = 1", "timeouts.conect", 'did you mean "connect"?'),
        ("[timeouts]\nconnect = 0", "timeouts.connect", "expected more than 0 seconds"),
        ("[timeouts]\nconnect_tries = 0", "timeouts.connect_tries", "from 1 to 100, got 0"),
        ("[timeouts]\nconnect_tries = '3'", "timeouts.connect_tries", "got a string"),
        ("[models.t]", "models.t", "`source` is missing"),
        ("[models.t]\nsource = 'x'\ncontext = 0", "models.t.context", "got 0"),
        ("[models.t]\nsource = 'x'\nargs = '--x'", "models.t.args", "expected an array of strings"),
        ('[models.t]\nsource = "x"\nargs = ["\\u0000"]', "models.t.args[0]", "without NUL"),
        ('[models.t]\nsource = "x\\n"', "models.t.source", "without control characters"),
        ("[defaults]\nmodel = ''", "defaults.model", "got an empty string"),
    ],
)
def test_one_fault_elsewhere(text: str, key: str, problem: str) -> None:
    found = faults(text)
    assert list(found) == [key]
    assert problem in found[key]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[nodes.a]\nhost = \n", 2, "Invalid value"),
        ("[nodes.a]\nhost = 'a'\nhost = 'b'\n", 3, "Cannot overwrite a value"),
        ("[nodes.a]\n[nodes.a]\n", 2, "Cannot declare"),
        ("a = 1\nb = 'x", 2, "Expected"),
        ("a = 1\n\0 = 2", 2, "Invalid statement"),
        ("a = " + "9" * 5000, None, "thousands of digits"),
        ("a = " + "[" * 5000, None, "nesting"),
        ("a = " + "{a=" * 5000, None, "nesting"),
        ("x = 1\n" + "a." * 200_000 + "a = 1", 2, "dots on a line"),
    ],
    ids=range(9),
)
def test_text_that_is_no_toml(text: str, line: int | None, problem: str) -> None:
    with pytest.raises(InventoryInvalid) as caught:
        parse(text, FILE, home=HOME)
    (fault,) = caught.value.details["faults"]
    assert fault["line"] == line
    assert problem in fault["problem"]
