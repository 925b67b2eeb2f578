"""The list of inventories that the user has allowed."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryUntrusted
from rbee_ssh.inventory.allowed import Allowed, key, parsed, sha256


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def allowed(state: Path) -> Allowed:
    return Allowed({"XDG_STATE_HOME": str(state)})


def test_it_is_this_content_at_this_path(allowed: Allowed, state: Path, tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    assert not allowed.holds(path, b"one")
    allowed.allow(path, b"one")
    assert allowed.holds(path, b"one")
    assert not allowed.holds(path, b"two")
    assert not allowed.holds(tmp_path / "other" / "inventory.toml", b"one")
    allowed.allow(path, b"two")
    assert not allowed.holds(path, b"one"), "what was allowed before is not, once something else is"
    assert allowed.deny(path)
    assert not allowed.deny(path)
    assert not allowed.holds(path, b"two")
    assert os.listdir(state / "rbee") == ["allowed.json"]
    assert (state / "rbee").stat().st_mode & 0o777 == 0o700
    assert (state / "rbee" / "allowed.json").stat().st_mode & 0o777 == 0o600


def test_what_an_edit_replaces_stays_allowed_until_the_next(allowed: Allowed, tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    allowed.allow(path, b"one")
    allowed.follow(path, b"one", b"two")
    assert allowed.holds(path, b"one") and allowed.holds(path, b"two")
    allowed.follow(path, b"two", b"three")
    assert not allowed.holds(path, b"one")
    assert allowed.holds(path, b"three")


def test_a_directory_by_another_name_is_the_same_and_a_link_to_a_file_is_not(tmp_path: Path) -> None:
    """Recipes and keys are relative to where an inventory was found, not to where a link leads."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "inventory.toml").touch()
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "inventory.toml").symlink_to("real/inventory.toml")
    assert key(tmp_path / "alias/inventory.toml") == str(tmp_path / "real/inventory.toml")
    assert key(tmp_path / "alias/../inventory.toml") == str(tmp_path / "inventory.toml")
    assert key(tmp_path / "inventory.toml") == str(tmp_path / "inventory.toml")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b'{"/x": "y"}', b'{"/x": null}', b"\xff", b"[" * 9999]
)
def test_what_is_no_list_allows_nothing(
    allowed: Allowed, state: Path, tmp_path: Path, content: bytes
) -> None:
    assert parsed(content) == {}
    allowed.allow(tmp_path / "inventory.toml", b"one")
    (state / "rbee" / "allowed.json").write_bytes(content)
    assert not allowed.holds(tmp_path / "inventory.toml", b"one")
    allowed.allow(tmp_path / "inventory.toml", b"one")
    assert allowed.holds(tmp_path / "inventory.toml", b"one")


def test_a_list_that_others_may_write_is_refused(allowed: Allowed, state: Path, tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    allowed.allow(path, b"one")
    (state / "rbee" / "allowed.json").chmod(0o666)
    with pytest.raises(InventoryUntrusted, match="others may write it") as caught:
        allowed.holds(path, b"one")
    assert caught.value.hint == f"rm {state}/rbee/allowed.json"
    with pytest.raises(InventoryUntrusted, match="others may write it"):
        allowed.allow(path, b"one")


def test_a_pipe_in_its_place_holds_nobody_up(allowed: Allowed, state: Path, tmp_path: Path) -> None:
    (state / "rbee").mkdir(parents=True)
    os.mkfifo(state / "rbee" / "allowed.json")
    with pytest.raises(InventoryUntrusted, match="not a regular file"):
        allowed.holds(tmp_path / "inventory.toml", b"one")


def test_where_nothing_can_be_remembered(allowed: Allowed, state: Path, tmp_path: Path) -> None:
    state.write_text("no directory")
    assert not allowed.holds(tmp_path / "inventory.toml", b"one")
    with pytest.raises(InventoryUntrusted, match="what is allowed cannot be remembered"):
        allowed.allow(tmp_path / "inventory.toml", b"one")


def test_names_of_any_kind(allowed: Allowed, state: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b'a\xff\n"x')
    odd.mkdir()
    allowed.allow(odd / "inventory.toml", b"one")
    assert allowed.holds(odd / "inventory.toml", b"one")
    assert len(json.loads((state / "rbee" / "allowed.json").read_text())) == 1


def test_of_many_at_once_none_is_lost(allowed: Allowed, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) / "inventory.toml" for number in range(12)]
    threads = [threading.Thread(target=allowed.allow, args=(path, b"one")) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(allowed.holds(path, b"one") for path in paths)
    assert sha256(b"one").startswith("7692c3ad3540bb80")
