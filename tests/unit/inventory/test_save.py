"""The inventory's file: replaced whole, with its mode; made where there is none; nobody's change lost."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid, InventoryLocked, InventoryUntrusted, NodeExists, UsageInvalid
from rbee_ssh.inventory import rewrite
from rbee_ssh.inventory.allowed import Allowed
from rbee_ssh.inventory.edit import with_node, without_node
from rbee_ssh.inventory.find import InventorySource, look
from rbee_ssh.inventory.save import save

TEXT = '# mine\n[nodes.a]\nhost = "a"\n'


def draft(path: Path | None, **environ: str) -> InventorySource:
    return look(
        path, environ={"HOME": str(path.parent if path else "/")} | environ, cwd=Path("/"), warn=print
    )


def added(text: str) -> str:
    return with_node(text, "b", {"host": "b"})


def test_the_file_keeps_its_mode_and_its_mark_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    path.chmod(0o640)
    inventory = save(draft(path), added)
    assert list(inventory.nodes) == ["a", "b"]
    assert path.read_bytes() == b"\xef\xbb\xbf" + added(TEXT).encode()
    assert path.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(tmp_path) == ["mine.toml"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "inventory.toml"
    real.parent.mkdir()
    real.write_text(TEXT)
    link = tmp_path / "inventory.toml"
    link.symlink_to("dotfiles/inventory.toml")
    save(draft(link), added)
    assert link.is_symlink()
    assert real.read_text() == added(TEXT)


def test_what_is_not_there_is_made_for_its_user_alone(tmp_path: Path) -> None:
    users = look(None, environ={"HOME": str(tmp_path)}, cwd=Path("/"), warn=print)
    assert (users.text, users.by) == (None, "")
    assert save(users, added).path == tmp_path / ".config/rbee/inventory.toml"
    path = tmp_path / ".config/rbee/inventory.toml"
    assert path.read_text() == added("")
    assert path.stat().st_mode & 0o7777 == 0o600
    named = draft(tmp_path / "new" / "named.toml")
    save(named, added)
    assert (tmp_path / "new" / "named.toml").read_text() == added("")


def test_nothing_is_written_when_the_new_text_is_no_inventory(tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(TEXT)
    with pytest.raises(InventoryInvalid, match="port"):
        save(draft(path), lambda text: with_node(text, "b", {"host": "b", "port": 0}))
    with pytest.raises(NodeExists):
        save(draft(path), lambda text: with_node(text, "a", {"host": "b"}))
    assert path.read_text() == TEXT
    fresh = tmp_path / "none.toml"
    with pytest.raises(InventoryInvalid):
        save(draft(fresh), lambda text: "[nodes.b]\n")
    assert not fresh.exists()


def test_a_found_one_may_not_be_given_what_only_a_named_one_may_do(tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    said: list[str] = []
    found = look(None, environ={"HOME": str(tmp_path / "home")}, cwd=tmp_path, warn=said.append)
    assert len(said) == 1
    with pytest.raises(InventoryUntrusted, match="setup"):
        save(found, lambda text: with_node(text, "b", {"host": "b", "setup": ["x.py:y"]}))
    path.chmod(0o666)
    with pytest.raises(InventoryUntrusted, match="others may write"):
        save(found, added)
    assert path.read_text() == TEXT


def here(directory: Path, file: str | None = None) -> InventorySource:
    """What whoever stands in this directory has: the inventory found there, or one that is named."""
    environ = {"HOME": str(directory / "home")}
    return look(None if file is None else Path(file), environ=environ, cwd=directory, warn=lambda text: None)


def stranger(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


@pytest.mark.parametrize("by", [None, "inventory.toml"], ids=["found", "named"])
def test_what_was_allowed_is_so_after_an_edit(tmp_path: Path, by: str | None) -> None:
    path = tmp_path / "inventory.toml"
    stranger(path, TEXT + 'user = "u"\n')
    Allowed({"HOME": str(tmp_path / "home")}).allow(path, path.read_bytes())
    save(here(tmp_path, by), lambda text: with_node(text, "b", {"host": "b", "setup": ["x.py:y"]}))
    assert here(tmp_path).allowed
    save(here(tmp_path, by), lambda text: without_node(text, "b"))
    assert here(tmp_path).allowed
    stranger(path, path.read_text() + 'jump = "x"\n')
    assert not here(tmp_path).allowed


def test_an_edit_allows_no_strangers_file(tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    stranger(path, TEXT + 'user = "u"\n')
    save(here(tmp_path, "./inventory.toml"), added)
    assert "[nodes.b]" in path.read_text()
    assert not here(tmp_path).allowed
    with pytest.raises(InventoryUntrusted, match=r"nodes\.a\.user"):
        save(here(tmp_path), lambda text: without_node(text, "b"))


def test_one_that_an_edit_has_made_is_allowed(tmp_path: Path) -> None:
    """It says nothing but what was typed."""
    save(here(tmp_path, "./inventory.toml"), lambda text: with_node(text, "b", {"host": "b", "user": "u"}))
    assert here(tmp_path).allowed
    save(here(tmp_path, "other.toml"), added)
    assert len(json.loads((tmp_path / "home/.local/state/rbee/allowed.json").read_text())) == 1


def test_an_edit_succeeds_where_nothing_can_be_remembered(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no directory")
    save(here(tmp_path, "./inventory.toml"), added)
    assert (tmp_path / "inventory.toml").read_text() == added("")
    assert not here(tmp_path).allowed


@pytest.mark.parametrize("what", ["directory", "fifo"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "inventory.toml"
    if what == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(InventoryInvalid):
        save(InventorySource(path, "x", None, None, by="--inventory"), added)


def test_without_a_place_there_is_none() -> None:
    with pytest.raises(UsageInvalid, match="--inventory"):
        save(InventorySource(None, "", None, None), added)


def test_who_holds_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(TEXT)
    monkeypatch.setattr(rewrite, "PATIENCE", 0.1)
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InventoryLocked, match="another command"):
            save(draft(path), added)
    save(draft(path), added)
