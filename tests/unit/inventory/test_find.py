from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rbee_ssh.errors import InventoryInvalid, InventoryNotFound, InventoryUntrusted, UsageInvalid
from rbee_ssh.inventory import Inventory, load
from rbee_ssh.inventory.allowed import Allowed
from rbee_ssh.inventory.faults import dotted
from rbee_ssh.inventory.find import LARGEST, findable


class Place:
    """A home, a working directory, and what was warned about."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.cwd = root / "work"
        self.users = self.home / ".config" / "rbee" / "inventory.toml"
        self.found = self.cwd / "inventory.toml"
        self.users.parent.mkdir(parents=True)
        self.cwd.mkdir()
        self.environ = {"HOME": str(self.home)}
        self.warnings: list[str] = []

    def write(self, path: Path, node: str, more: str = "") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[nodes.{node}]\nhost = '{node}'\n{more}")
        path.chmod(0o644)
        return path

    def load(self, named: Path | str | None = None, **environ: str) -> Inventory:
        return load(
            Path(named) if named is not None else None,
            environ=self.environ | environ,
            cwd=self.cwd,
            warn=self.warnings.append,
        )

    def nodes(self, named: Path | str | None = None, **environ: str) -> list[str]:
        return list(self.load(named, **environ).nodes)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_order(place: Place) -> None:
    assert place.nodes() == ["localhost"]
    assert place.load().path is None
    place.write(place.users, "users")
    assert place.nodes() == ["users"]
    assert place.load().path == place.users
    assert place.warnings == []
    place.write(place.found, "found")
    assert place.nodes() == ["found"]
    assert place.warnings == [f"using ./inventory.toml, found in {place.cwd} and not named"]
    by_env = place.write(place.cwd / "env.toml", "env")
    assert place.nodes(RBEE_INVENTORY=str(by_env)) == ["env"]
    assert place.nodes(RBEE_INVENTORY="env.toml") == ["env"]
    by_option = place.write(place.cwd / "option.toml", "option")
    assert place.nodes(by_option, RBEE_INVENTORY=str(by_env)) == ["option"]
    assert place.nodes("option.toml") == ["option"]
    assert place.load("option.toml").path == by_option
    assert len(place.warnings) == 1


@pytest.mark.parametrize("linked", ["home", "directory", "file"])
def test_the_users_own_is_no_found_one_where_a_link_leads_to_it(place: Place, linked: str) -> None:
    """A home behind a link; ~/.config/rbee or the file itself in a directory of dotfiles."""
    real = place.home / "dotfiles"
    place.write(real / "inventory.toml", "users", "user = 'u'\n")
    place.users.parent.rmdir()
    if linked == "file":
        place.users.parent.mkdir()
        place.users.symlink_to(real / "inventory.toml")
    else:
        place.users.parent.symlink_to(real)
    if linked == "home":
        (place.home.parent / "link").symlink_to(place.home)
        place.environ["HOME"] = str(place.home.parent / "link")
    place.cwd = real
    assert place.nodes() == ["users"]
    assert place.warnings == []
    os.unlink(real / "inventory.toml")
    assert place.nodes() == ["localhost"]


def test_an_empty_variable_is_none(place: Place) -> None:
    place.write(place.found, "found")
    assert place.nodes(RBEE_INVENTORY="", XDG_CONFIG_HOME="") == ["found"]


def test_the_users_inventory_moves_with_xdg_config_home(place: Place, tmp_path: Path) -> None:
    place.write(place.users, "users")
    place.write(tmp_path / "xdg" / "rbee" / "inventory.toml", "xdg")
    assert place.nodes(XDG_CONFIG_HOME=str(tmp_path / "xdg")) == ["xdg"]
    assert place.nodes(XDG_CONFIG_HOME="xdg") == ["users"]  # relative: to be ignored, says the specification


def test_a_tilde_that_no_shell_has_expanded(place: Place) -> None:
    place.write(place.users, "users")
    assert place.nodes("~/.config/rbee/inventory.toml") == ["users"]
    assert place.nodes(RBEE_INVENTORY="~/.config/rbee/inventory.toml") == ["users"]


def test_key_files_of_the_users_inventory(place: Place) -> None:
    place.write(place.users, "a", "identity_file = '~/k'\n[nodes.b]\nhost = 'b'\nidentity_file = 'k'")
    nodes = place.load().nodes
    assert nodes["a"].identity_file == place.home / "k"
    assert nodes["b"].identity_file == place.users.parent / "k"


@pytest.mark.parametrize("name", ["none.toml", "a/b/none.toml", "with space; $(x).toml", "file/none.toml"])
@pytest.mark.parametrize("by", ["--inventory", "RBEE_INVENTORY"])
def test_a_named_one_that_is_not_there(place: Place, name: str, by: str) -> None:
    place.write(place.found, "found")
    (place.cwd / "file").touch()
    with pytest.raises(InventoryNotFound) as caught:
        place.nodes(name) if by == "--inventory" else place.nodes(RBEE_INVENTORY=name)
    assert by in caught.value.message
    assert name in caught.value.message
    assert caught.value.details["path"] == str(place.cwd / name)
    assert caught.value.exit_status == 2


def test_a_name_that_no_file_can_have(place: Place) -> None:
    with pytest.raises(InventoryNotFound):
        place.nodes("a\0b")
    with pytest.raises(InventoryInvalid, match="File name too long"):
        place.nodes("x" * 5000)


def test_a_directory(place: Place) -> None:
    with pytest.raises(InventoryInvalid, match="Is a directory"):
        place.nodes(place.home)
    place.users.mkdir()
    with pytest.raises(InventoryInvalid, match="Is a directory"):
        place.nodes()
    place.found.mkdir()
    with pytest.raises(InventoryInvalid, match=r"inventory\.toml.*Is a directory"):
        place.nodes()


def test_what_is_not_utf_8(place: Place) -> None:
    place.found.write_bytes(b"# fine\n# gr\xfc\xdfe\n")
    with pytest.raises(InventoryInvalid, match="expected UTF-8 text") as caught:
        place.nodes(place.found)
    assert caught.value.details["faults"][0]["line"] == 2


def test_a_byte_order_mark(place: Place) -> None:
    place.found.write_bytes(b"\xef\xbb\xbf[nodes.a]\r\nhost = 'a'\r\n")
    assert place.nodes(place.found) == ["a"]


def test_what_is_too_large_is_not_read_to_its_end(place: Place) -> None:
    with place.found.open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    with pytest.raises(InventoryInvalid, match="at most 512 KiB"):
        place.nodes(place.found)
    with pytest.raises(InventoryInvalid, match="at most 512 KiB"):
        place.nodes("/dev/zero")
    place.found.write_text("#" * LARGEST)
    assert place.nodes(place.found) == ["localhost"]


def test_a_pipe_may_be_named(place: Place) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"[nodes.piped]\nhost = 'p'\n")
    os.close(writing)
    try:
        assert place.nodes(f"/dev/fd/{reading}") == ["piped"]
    finally:
        os.close(reading)


def test_a_pipe_that_was_found_holds_nobody_up(place: Place) -> None:
    os.mkfifo(place.found)
    with pytest.raises(InventoryUntrusted, match="not a regular file"):
        place.nodes()


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_found_one_that_others_may_write(place: Place, mode: int) -> None:
    place.write(place.found, "found").chmod(mode)
    with pytest.raises(InventoryUntrusted) as caught:
        place.nodes()
    assert f"others may write it (mode {mode:04o})" in caught.value.message
    assert "rbee --inventory ./inventory.toml" in str(caught.value.hint)
    assert caught.value.exit_status == 2
    assert place.nodes("./inventory.toml") == ["found"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_found_one_that_is_somebody_elses(place: Place) -> None:
    place.write(place.found, "found")
    os.chown(place.found, 65534, 65534)
    with pytest.raises(InventoryUntrusted, match="belongs to user id 65534"):
        place.nodes()
    assert place.nodes("./inventory.toml") == ["found"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_link_of_somebody_elses_to_a_file_of_ours(place: Place) -> None:
    place.found.symlink_to(place.write(place.cwd / "ours.toml", "ours"))
    assert place.nodes() == ["ours"]
    os.chown(place.found, 65534, 65534, follow_symlinks=False)
    with pytest.raises(InventoryUntrusted, match="belongs to user id 65534"):
        place.nodes()


def test_a_found_one_that_sets_too_much(place: Place) -> None:
    place.write(place.found, "there", "setup = ['x.py:y']\n[nodes.b]\nhost = 'b'\nuser = 'x'\ntags = ['t']\n")
    with pytest.raises(InventoryUntrusted) as caught:
        place.nodes()
    assert "./inventory.toml:3: nodes.there.setup: decides what runs on this machine" in caught.value.message
    assert "./inventory.toml:6: nodes.b.user: decides as whom one logs in" in caught.value.message
    assert [fault["line"] for fault in caught.value.details["faults"]] == [3, 6]
    assert "rbee inventory allow" in str(caught.value.hint)
    assert "rbee --inventory ./inventory.toml" in str(caught.value.hint)
    assert place.nodes("inventory.toml") == ["there", "b"]


def allow(place: Place, file: str = "./inventory.toml") -> list[str]:
    path, content, keys = findable(Path(file), environ=place.environ, cwd=place.cwd)
    Allowed(place.environ).allow(path, content)
    return [dotted(fault.where) for fault in keys]


def test_one_that_was_allowed_until_it_changes(place: Place) -> None:
    text = place.write(place.found, "a", "user = 'x'\n").read_text()
    assert allow(place) == ["nodes.a.user"]
    assert place.load().nodes["a"].user == "x"
    assert place.warnings == []
    place.write(place.found, "a", "user = 'y'\n")
    with pytest.raises(InventoryUntrusted):
        place.nodes()
    place.found.write_text(text)
    assert place.nodes() == ["a"]
    place.found.chmod(0o666)
    with pytest.raises(InventoryUntrusted, match="others may write"):
        place.nodes()


def test_what_was_allowed_is_not_so_elsewhere(place: Place, tmp_path: Path) -> None:
    """Also not by way of a link: the recipes would be those beside the link."""
    place.write(place.found, "a", "setup = ['r.py:x']\n")
    allow(place)
    place.cwd = tmp_path / "copy"
    copy = place.write(place.cwd / "inventory.toml", "a", "setup = ['r.py:x']\n")
    with pytest.raises(InventoryUntrusted):
        place.nodes()
    copy.unlink()
    copy.symlink_to(place.found)
    with pytest.raises(InventoryUntrusted):
        place.nodes()


def test_what_cannot_be_allowed(place: Place) -> None:
    with pytest.raises(InventoryNotFound, match="there is no"):
        allow(place)
    with pytest.raises(UsageInvalid, match=r"only a file called inventory\.toml") as caught:
        allow(place, "other.toml")
    assert caught.value.hint == "name it: rbee --inventory other.toml …"
    place.write(place.found, "a", "prot = 1")
    with pytest.raises(InventoryInvalid, match="prot"):
        allow(place)
    place.write(place.found, "a").chmod(0o666)
    with pytest.raises(InventoryUntrusted, match="others may write"):
        allow(place)


def test_the_users_inventory_is_no_found_one_to_who_stands_beside_it(place: Place) -> None:
    place.write(place.users, "localhost", "python = '/opt/python'")
    place.cwd = place.users.parent
    assert place.nodes() == ["localhost"]
    assert place.warnings == []


def test_faults_of_a_found_one_come_after_its_announcement(place: Place) -> None:
    place.write(place.found, "a", "prot = 1")
    with pytest.raises(InventoryInvalid, match=r"\./inventory\.toml:3: nodes\.a\.prot"):
        place.nodes()
    assert len(place.warnings) == 1


@contextmanager
def somebody_else() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_without_permission(place: Place, tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    place.write(place.found, "found").chmod(0o600)
    place.write(place.users, "users")
    with somebody_else(), pytest.raises(InventoryInvalid, match=r"\./inventory\.toml.*Permission denied"):
        place.nodes()
    place.cwd.chmod(0o700)  # nothing can be found in a directory that is closed
    with somebody_else():
        assert place.nodes() == ["users"]
    place.users.chmod(0o600)
    with somebody_else(), pytest.raises(InventoryInvalid, match="Permission denied"):
        place.nodes()
