from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory import Inventory, ModelPreset, Node, Timeouts, parse

FILE = Path("/etc/lab/inventory.toml")
HOME = Path("/home/me")


def read(text: str) -> Inventory:
    return parse(text, FILE, home=HOME)


def test_every_key_of_a_node() -> None:
    inventory = read("""
        [nodes.box]
        host = "box.example.org"
        port = 2222
        user = 'DOMAIN\\me'
        identity_file = "~/.ssh/id_ed25519"
        jump = ["gate", "me@10.0.0.1:22", "[fe80::1%eth0]:2200"]
        tags = ["gpu", "büro"]
        engine = "llama-server"
        engine_path = "/opt/my llama/llama-server"
        python = "python3.12"
        backend = "cuda"
        device = "0, 1"
        models_dir = "/srv/$(models)"
        env = { A = "x\\ny; $(z)", B = 4 }
        listen = "tcp"
        lease = "1h30m"
        setup = ["recipes.py:driver"]
    """)
    assert inventory.nodes["box"] == Node(
        name="box",
        host="box.example.org",
        port=2222,
        user="DOMAIN\\me",
        identity_file=HOME / ".ssh/id_ed25519",
        jump=("gate", "me@10.0.0.1:22", "[fe80::1%eth0]:2200"),
        tags=("gpu", "büro"),
        engine="llama-server",
        engine_path="/opt/my llama/llama-server",
        python="python3.12",
        backend="cuda",
        device="0,1",
        models_dir="/srv/$(models)",
        env=(("A", "x\ny; $(z)"), ("B", "4")),
        listen="tcp",
        lease=5400.0,
        setup=("recipes.py:driver",),
    )
    assert inventory.path == FILE


def test_presets_timeouts_and_defaults_of_our_own() -> None:
    inventory = read("""
        [defaults]
        model = "tiny"
        idle_timeout = 90
        [models.tiny]
        source = "hf:org/repo:Q4_K_M"
        context = 4096
        parallel = 2
        args = ["--grammar", "root ::= 'a'\\n", ""]
        [timeouts]
        connect = "2s"
        connect_tries = 1
        drain = 0
    """)
    assert inventory.model == "tiny"
    assert inventory.idle_timeout == 90.0
    assert inventory.models == {
        "tiny": ModelPreset("tiny", "hf:org/repo:Q4_K_M", 4096, 2, ("--grammar", "root ::= 'a'\n", ""))
    }
    assert inventory.timeouts == Timeouts(connect=2.0, connect_tries=1, drain=0.0)


def test_an_inventory_without_nodes_still_has_this_machine() -> None:
    assert read("").nodes == {"localhost": Node(name="localhost", host="localhost")}
    assert read("[defaults]\nbackend = 'cpu'").nodes["localhost"].backend == "cpu"
    assert list(read("[nodes.box]\nhost = 'box'").nodes) == ["box"]


def test_a_node_wins_over_the_defaults_and_its_env_is_added() -> None:
    node = read("""
        [defaults]
        user = "all"
        port = 22
        tags = ["a"]
        jump = "gate"
        env = { A = "1", B = "1" }
        [nodes.box]
        host = "box"
        port = 2222
        tags = []
        jump = []
        env = { B = "2", C = "2" }
    """).nodes["box"]
    assert (node.user, node.port, node.tags, node.jump) == ("all", 2222, (), ())
    assert dict(node.env) == {"A": "1", "B": "2", "C": "2"}


def test_a_host_may_come_from_the_defaults() -> None:
    nodes = read("[defaults]\nhost = 'nat'\n[nodes.a]\nport = 2201\n[nodes.b]\nport = 2202").nodes
    assert [(node.host, node.port) for node in nodes.values()] == [("nat", 2201), ("nat", 2202)]


def test_localhost_stays_inside_the_process_whatever_the_defaults_say_about_the_way() -> None:
    text = "[defaults]\nuser = 'u'\nport = 1\njump = 'g'\nidentity_file = 'k'\nlease = '2h'\n"
    text += "[nodes.here]\nhost = 'localhost'\n"
    here = read(text).nodes["here"]
    assert here.embedded
    assert here.lease == 7200.0
    by_sshd = read(text + "port = 22").nodes["here"]
    assert not by_sshd.embedded
    assert (by_sshd.user, by_sshd.port, by_sshd.jump) == ("u", 22, ("g",))


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("~/.ssh/key", HOME / ".ssh/key"),
        ("keys/box", FILE.parent / "keys/box"),
        ("../key with space", FILE.parent / "../key with space"),
        ("/abs/key", Path("/abs/key")),
    ],
)
def test_a_key_file_is_relative_to_the_inventory(written: str, path: Path) -> None:
    assert read(f"[nodes.a]\nhost = 'a'\nidentity_file = '{written}'").nodes["a"].identity_file == path


def test_a_home_that_is_not_known_is_a_fault_only_where_it_is_needed() -> None:
    assert parse("[nodes.a]\nhost = 'a'\nidentity_file = 'k'", FILE).nodes
    with pytest.raises(InventoryInvalid, match="without '~', or HOME set"):
        parse("[nodes.a]\nhost = 'a'\nidentity_file = '~/k'", FILE)
