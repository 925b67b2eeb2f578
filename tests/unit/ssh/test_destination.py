"""Where a node is: the inventory's words over ssh_config's, as `ssh -G` would have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid, SshConfigInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.ssh import destination, known_hosts
from rbee_ssh.ssh.destination import Destination, of_hop, of_node


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setattr(destination, "SYSTEM_CONFIG", tmp_path / "system")
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def resolve(home: Path, config: str, node: Node | None = None) -> Destination:
    (home / ".ssh/config").write_text(config)
    return of_node(node or Node("n", "box"))


def test_without_a_config_there_are_defaults(home: Path) -> None:
    there = of_node(Node("n", "box.example"))
    assert (there.host, there.port, there.user, there.hops) == ("box.example", 22, "me", ())
    assert there.identity_files is None
    assert there.agent_path is None
    assert there.known_hosts_files[0] == "~/.ssh/known_hosts"
    assert there.known_hosts_files[-1].startswith("/etc/ssh/")


def test_the_first_word_counts_and_the_systems_comes_last(home: Path) -> None:
    (home / "system").write_text("Host *\n  User everybody\n  Port 2200\n")
    there = resolve(home, "Host box\n  HostName 10.0.0.7\n  User root\nHost *\n  User other\n")
    assert (there.alias, there.host, there.port, there.user) == ("box", "10.0.0.7", 2200, "root")


def test_the_inventory_wins(home: Path) -> None:
    node = Node("n", "box", port=77, user="ada", identity_file=Path("/k"), jump=("a", "b"))
    there = resolve(home, "Host box\n  Port 22\n  User root\n  ProxyJump c\n  IdentityFile ~/x\n", node)
    assert (there.port, there.user, there.identity_file, there.hops) == (77, "ada", Path("/k"), ("a", "b"))


@pytest.mark.parametrize(
    ("line", "hops"),
    [
        ("ProxyJump a", ("a",)),
        ("ProxyJump a,me@b:2222", ("a", "me@b:2222")),
        ("ProxyJump none", ()),
        ("ProxyJump NONE", ()),
        ("ProxyCommand nc %h %p", ()),
    ],
)
def test_hops(home: Path, line: str, hops: tuple[str, ...]) -> None:
    assert resolve(home, f"Host *\n  {line}\n").hops == hops


@pytest.mark.parametrize(
    ("lines", "user", "system"),
    [
        ("UserKnownHostsFile ~/a ~/b", ("~/a", "~/b"), known_hosts.GLOBAL_FILES),
        ("GlobalKnownHostsFile /g", known_hosts.USER_FILES, ("/g",)),
        ("UserKnownHostsFile none", (), known_hosts.GLOBAL_FILES),
        ("UserKnownHostsFile /d/%h-%n-%p-%r-%k-%%-%x", ("/d/10.0.0.7-box-22-me-10.0.0.7-%-%x",), None),
        ("UserKnownHostsFile ${THERE}/x ${NOT_THERE}", ("/there/x", "${NOT_THERE}"), None),
        ("UserKnownHostsFile %d/x", ("{home}/x",), None),
    ],
)
def test_files_of_host_keys(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    user: tuple[str, ...],
    system: tuple[str, ...] | None,
) -> None:
    monkeypatch.setenv("THERE", "/there")
    monkeypatch.delenv("NOT_THERE", raising=False)
    there = resolve(home, f"Host box\n  HostName 10.0.0.7\n  {lines}\n")
    assert there.user_known_hosts == tuple(name.replace("{home}", str(home)) for name in user)
    assert system is None or there.global_known_hosts == system


@pytest.mark.parametrize(
    ("lines", "name", "entry"),
    [
        ("", "box", "box"),
        ("HostName Box.Example", "box.example", "box.example"),
        ("Port 2222", "box", "[box]:2222"),
        ("HostKeyAlias Key\n  Port 2222", "key", "key"),
        ("HostName ::1\n  Port 2222", "::1", "[::1]:2222"),
        ("HostName 127.1", "127.1", "127.0.0.1"),
        ("HostName 0::0:1", "0::0:1", "::1"),
    ],
)
def test_the_name_of_its_key(home: Path, lines: str, name: str, entry: str) -> None:
    there = resolve(home, f"Host *\n  {lines}\n")
    assert (there.key_names[-1], there.key_entry) == (name, entry)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("IdentityAgent none", "none"),
        ("IdentityAgent NONE", "none"),
        ("IdentityAgent SSH_AUTH_SOCK", None),
        ("IdentityAgent $MINE", "/mine.sock"),
        ("IdentityAgent $NOBODYS", "none"),
        ("IdentityAgent ~/agent.sock", "~/agent.sock"),
        ("IdentityAgent %d/agent.sock", "{home}/agent.sock"),
    ],
)
def test_the_agent(home: Path, monkeypatch: pytest.MonkeyPatch, line: str, path: str | None) -> None:
    monkeypatch.setenv("MINE", "/mine.sock")
    monkeypatch.delenv("NOBODYS", raising=False)
    there = resolve(home, f"Host *\n  {line}\n")
    assert there.agent_path == (path and path.replace("{home}", str(home)))


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("IdentityFile ~/.ssh/%h\n  IdentityFile %d/k", ("~/.ssh/box", "{home}/k")),
        ("IdentityFile none", ()),
        ("User x", None),
    ],
)
def test_the_keys(home: Path, lines: str, files: tuple[str, ...] | None) -> None:
    there = resolve(home, f"Host *\n  {lines}\n")
    assert there.identity_files == (files and tuple(name.replace("{home}", str(home)) for name in files))


@pytest.mark.parametrize(
    "config",
    [
        'Host "unclosed\n',
        "Host *\n  Port many\n",
        "Host *\n  User\n",
        "Match sometimes\n",
        "Include ~nosuchuser/*\n",
        "Host *\n  IdentityFile ~/%Z\n",
        b"Host *\n  User \xff\n",
    ],
)
def test_a_config_that_cannot_be_read_is_told(home: Path, config: str | bytes) -> None:
    (home / ".ssh/config").write_bytes(config if isinstance(config, bytes) else config.encode())
    with pytest.raises(SshConfigInvalid) as refusal:
        of_node(Node("n", "box"))
    assert refusal.value.hint == "ssh -G box"


@pytest.mark.parametrize(
    ("hop", "host", "port", "user"),
    [
        ("b", "b", 22, "me"),
        ("ada@b:2222", "b", 2222, "ada"),
        ("ada@x@b", "b", 22, "ada@x"),
        ("[fe80::1%eth0]:2222", "fe80::1%eth0", 2222, "me"),
        ("ada@[::1]", "::1", 22, "ada"),
        ("ssh://ada@b:2222", "b", 2222, "ada"),
        ("gateway", "10.9.9.9", 7, "root"),
    ],
)
def test_a_hop_as_it_is_written(home: Path, hop: str, host: str, port: int, user: str) -> None:
    nodes = {"gateway": Node("gateway", "10.9.9.9", port=7, user="root", jump=("outer",))}
    there = of_hop(hop, nodes, hops=())
    assert (there.host, there.port, there.user) == (host, port, user)
    assert there.hops == (("outer",) if hop in nodes else ())
    assert there.in_inventory is (hop in nodes)


def test_hops_before_a_hop_stand_for_its_own(home: Path) -> None:
    nodes = {"gateway": Node("gateway", "10.9.9.9", jump=("outer",))}
    assert of_hop("gateway", nodes, hops=("first",)).hops == ("first",)


@pytest.mark.parametrize("hop", ["", "@b", "b:x", "ada@", ":22", "[]:22"])
def test_a_hop_that_is_none(home: Path, hop: str) -> None:
    with pytest.raises(InventoryInvalid):
        of_hop(hop, {}, hops=())
