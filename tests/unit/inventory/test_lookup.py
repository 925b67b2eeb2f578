from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import KeyNotFound, NodeUnknown
from rbee_ssh.inventory import Inventory, Node, check_keys, node, select

INVENTORY = Inventory(
    nodes={
        "workstation": Node(name="workstation", host="w", tags=("gpu", "office")),
        "server": Node(name="server", host="s", tags=("gpu",)),
        "büro": Node(name="büro", host="b"),
    },
    path=Path("/x/inventory.toml"),
)


def test_a_known_node() -> None:
    assert node(INVENTORY, "server").host == "s"
    assert node(INVENTORY, "büro").host == "b"


@pytest.mark.parametrize("name", ["workstaton", "Workstation", "work_station"])
def test_an_unknown_node_names_the_known_and_the_nearest(name: str) -> None:
    with pytest.raises(NodeUnknown) as caught:
        node(INVENTORY, name)
    assert caught.value.message == (
        f'no node "{name}" in /x/inventory.toml, which has workstation, server, büro; '
        'did you mean "workstation"?'
    )
    assert caught.value.details["nearest"] == "workstation"
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", ["", "zzz", "--node", "a\x1b[31m\nb", "x" * 10_000, "$(reboot)"])
def test_a_name_that_is_like_none(name: str) -> None:
    with pytest.raises(NodeUnknown) as caught:
        node(INVENTORY, name)
    assert "did you mean" not in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("names", "tags", "selected"),
    [
        ((), (), ["workstation", "server", "büro"]),
        (("büro", "server", "büro"), (), ["büro", "server"]),
        ((), ("gpu",), ["workstation", "server"]),
        ((), ("office", "gpu"), ["workstation", "server"]),
        (("büro", "server"), ("gpu",), ["büro", "server", "workstation"]),
    ],
)
def test_nodes_by_name_and_by_tag(names: tuple[str, ...], tags: tuple[str, ...], selected: list[str]) -> None:
    assert [found.name for found in select(INVENTORY, names, tags)] == selected


def test_an_unknown_tag_names_the_known_and_the_nearest() -> None:
    with pytest.raises(NodeUnknown) as caught:
        select(INVENTORY, ["server"], ["gpu", "gpus\x1b[31m"])
    assert caught.value.message == (
        'no node with the tag "gpus\\u001b[31m" in /x/inventory.toml, which has the tags gpu, office'
    )
    with pytest.raises(NodeUnknown) as caught:
        select(INVENTORY, tags=["ofice"])
    assert caught.value.message.endswith('; did you mean "office"?')
    assert caught.value.details == {"tag": "ofice", "known_tags": ["gpu", "office"], "nearest": "office"}
    with pytest.raises(NodeUnknown, match="which has no tags at all"):
        select(Inventory({"n": Node("n", "h")}), tags=["gpu"])


def test_key_files_are_looked_for(tmp_path: Path) -> None:
    key = tmp_path / "id with space"
    with_key = Node(name="n", host="h", identity_file=key)
    with pytest.raises(KeyNotFound, match='identity_file of node "n" does not exist') as caught:
        check_keys(with_key)
    assert caught.value.details == {"node": "n", "path": str(key)}
    assert caught.value.hint == f"ls -l {tmp_path}"
    assert caught.value.exit_status == 2
    key.mkdir()
    with pytest.raises(KeyNotFound, match="is not a file"):
        check_keys(with_key)
    key.rmdir()
    key.touch()
    check_keys(with_key)
    check_keys(Node(name="n", host="h"))
