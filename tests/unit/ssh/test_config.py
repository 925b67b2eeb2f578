"""What ssh_config says of hosts, beside where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from rbee_ssh.errors import SshConfigInvalid
from rbee_ssh.ssh.config import Hosts, hashes_names, hosts, named, unknown


def test_hosts_of_a_file_and_of_those_it_includes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / ".ssh" / "config"
    config.write_text(
        "# Host commented\nInclude conf.d/*.conf\n"
        'Host gpu1 "gpu 2" gpu1\n  HostName 10.0.0.1\n'
        "host=gpu3\nHost * !gpu1\n  User me\nMatch host gpu9\n  Port 2\nHost lab-? lab-*\n"
    )
    (tmp_path / ".ssh" / "conf.d").mkdir()
    (tmp_path / ".ssh" / "conf.d" / "a.conf").write_text("Host inner\n  ProxyJump gpu1\n")
    (tmp_path / ".ssh" / "conf.d" / "b.conf").write_text("Match exec false\n  Include none\nHost last\n")
    found = hosts(config)
    assert sorted(found.aliases) == ["gpu1", "gpu3", "inner", "last"]
    assert found.patterns == ("lab-?", "lab-*")
    assert [found.knows(alias) for alias in ("gpu3", "lab-7", "other")] == [True, True, False]
    assert unknown("laste", found).endswith('did you mean "last"?')
    assert hosts(tmp_path / "none") == Hosts(())


def test_hosts_that_are_none_for_an_inventory() -> None:
    lines = [["a", "!a"], ["b", "!b*"], ["c", "!d"], ["localhost"], ["-x"], ["u@h"], ["x;y"], ["a,b"], ["ü"]]
    assert named(lines) == Hosts(("c", "ü"))


def test_a_file_that_includes_itself_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host a\nInclude {config}\n")
    with pytest.raises(SshConfigInvalid):
        hosts(config)


def test_whether_names_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    monkeypatch.setattr("rbee_ssh.ssh.destination.config_files", lambda: [str(config)])
    config.write_text("Host plain\n  HashKnownHosts no\nHost *\n  Ciphers aes128-ctr\n  HashKnownHosts yes\n")
    assert not hashes_names("plain")
    assert hashes_names("other")
    config.write_text("")
    assert not hashes_names("other")
