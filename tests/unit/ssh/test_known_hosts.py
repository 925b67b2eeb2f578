"""known_hosts read as OpenSSH reads it, and written so that OpenSSH reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import HostKeyChanged, HostKeyUnknown, UsageInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.ssh import destination, known_hosts, trust
from rbee_ssh.ssh.known_hosts import Trusted
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.refusals import host_key_refused
from rbee_ssh.ssh.trust import PresentedKey


def new_key(kind: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(kind).convert_to_public()


KEY, OTHER = new_key(), new_key()
ECDSA, RSA = new_key("ecdsa-sha2-nistp256"), new_key("ssh-rsa")


def line(name: str, key: asyncssh.SSHKey = KEY) -> str:
    return f"{name} {' '.join(key.export_public_key('openssh').decode().split()[:2])}\n"


def entries(directory: Path, text: str) -> tuple[tuple[str, int, str], ...]:
    path = directory / "known_hosts"
    path.write_bytes(text.encode())
    return known_hosts.read([str(path), str(directory / "missing"), str(directory)])


def found(directory: Path, text: str, name: str = "box.example") -> list[tuple[int, str]]:
    keys = known_hosts.KnownHosts(entries(directory, text)).under(name)
    return [(key.line, key.fingerprint) for key in keys]


def trusted(
    directory: Path, text: str, host: str = "box.example", port: int = 22, alias: str | None = None
) -> Trusted:
    known = known_hosts.load(entries(directory, text))
    return known.trusted(known_hosts.names_of(host, port, alias))


@pytest.mark.parametrize(
    ("name", "port", "matches"),
    [
        ("box.example", 22, True),
        ("other,box.example,10.0.0.7", 22, True),
        ("*.example", 22, True),
        ("b?x.example", 22, True),
        ("*.example,!box.example", 22, False),
        ("BOX.Example", 22, True),
        ("[box.example]:2222", 2222, True),
        ("[box.example]:2222", 22, False),
        ("[box.example]:2222", 2223, False),
        ("box.example", 2222, False),
        ("box", 22, False),
    ],
)
def test_names(tmp_path: Path, name: str, port: int, matches: bool) -> None:
    expected = [(1, KEY.get_fingerprint())] if matches else []
    assert found(tmp_path, line(name), known_hosts.entry_name("box.example", port)) == expected


def test_names_that_are_hashed(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("box.example") + line("[box.example]:2222", OTHER))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    assert "box.example" not in path.read_text()
    assert found(tmp_path, path.read_text()) == [(1, KEY.get_fingerprint())]
    assert found(tmp_path, path.read_text(), "[box.example]:2222") == [(2, OTHER.get_fingerprint())]


def test_lines_are_counted_as_an_editor_does_and_bad_ones_passed_over(tmp_path: Path) -> None:
    text = (
        "# a comment\n\n" + line("a") + "box.example ssh-ed25519 not base64\n@what *\n" + line("box.example")
    )
    assert found(tmp_path, text) == [(6, KEY.get_fingerprint())]
    assert [one.key for one in trusted(tmp_path, text).keys] == [KEY]


def test_markers(tmp_path: Path) -> None:
    said = trusted(tmp_path, "@revoked " + line("*") + "@cert-authority " + line("*", OTHER))
    assert said.keys == (), "an authority is no key of the host's"
    assert [one.key for one in said.authorities] == [OTHER]
    assert [one.key for one in said.revoked] == [KEY]


@pytest.mark.parametrize("comment", ["me@laptop", "Jürgen's machine", "a b c", "\x00"])
def test_comments_do_not_matter(tmp_path: Path, comment: str) -> None:
    assert found(tmp_path, line("box.example").rstrip("\n") + f" {comment}\n") != []


@pytest.mark.parametrize("sign", ["\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\u2028"])
def test_a_line_ends_in_a_line_feed_alone_and_a_word_in_a_blank(tmp_path: Path, sign: str) -> None:
    """Else what somebody has a comment say, as in the banner that ssh-keyscan repeats, would be a line."""
    assert found(tmp_path, f"# SSH-2.0-x{sign}{line('box.example')}") == []
    assert found(tmp_path, f"{line('a').rstrip()} x{sign}{line('box.example')}") == []
    assert found(tmp_path, f"{sign}{line('box.example')}") == []
    assert found(tmp_path, line(f"box.example{sign}").rstrip() + " c\n") == []


def test_a_hash_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("box.example"))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    names, key = path.read_text().split(" ", 1)
    assert found(tmp_path, f"{names} {key}") != []
    assert found(tmp_path, f"{names},other {key}") == []


@given(st.text(max_size=200))
def test_whatever_a_file_holds(text: str) -> None:
    rows = tuple(("f", number, row) for number, row in enumerate(text.splitlines()) if row.strip())
    known = known_hosts.load(rows)
    assert known_hosts.algorithms(known.trusted(known_hosts.names_of("box", 2222)))
    assert known_hosts.known_as(known, KEY, ["box"]) is None


def test_the_known_types_are_asked_for_first(tmp_path: Path) -> None:
    order = known_hosts.algorithms(trusted(tmp_path, line("box.example", ECDSA)))
    assert order[0] == "ecdsa-sha2-nistp256"
    assert "ssh-ed25519" in order, "a server that has another one now can show it"
    assert not any("cert" in name for name in order)
    assert len(order) == len(set(order))
    assert sorted(known_hosts.algorithms(Trusted())) == sorted(order)


def test_certificates_are_asked_for_where_an_authority_is_known(tmp_path: Path) -> None:
    text = "@cert-authority " + line("*.example", ECDSA) + line("box.example")
    assert "-cert-v01@openssh.com" in known_hosts.algorithms(trusted(tmp_path, text))[0]
    assert not any("cert" in name for name in known_hosts.algorithms(trusted(tmp_path, text, "box")))


def ssh_order(*options: str) -> list[str]:
    asked = ["ssh", "-F", "none", "-G", *options, "box"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    words = dict(row.split(" ", 1) for row in shown.splitlines())
    return words["hostkeyalgorithms"].split(",")


@pytest.mark.parametrize("configured", [None, "+ssh-rsa", "-ecdsa-*", "^rsa-sha2-512", "ssh-rsa,ssh-ed25519"])
def test_types_are_asked_for_in_the_order_of_ssh(configured: str | None) -> None:
    given = ("-o", f"HostKeyAlgorithms={configured}") if configured else ()
    expected = [name for name in ssh_order(*given) if "-cert-" not in name]
    assert known_hosts.algorithms(Trusted(), configured) == expected


def test_of_types_that_are_all_unknown_none_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="HostKeyAlgorithms ssh-new: none"):
        known_hosts.algorithms(Trusted(), "ssh-new")


def test_a_known_rsa_key_is_asked_for_without_sha1(tmp_path: Path) -> None:
    order = known_hosts.algorithms(trusted(tmp_path, line("box.example", RSA)))
    assert order[:3] == ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]
    assert "ssh-rsa" not in order
    assert "ssh-rsa" in known_hosts.algorithms(trusted(tmp_path, line("box.example", RSA)), "+ssh-rsa")
    assert "ssh-rsa" not in known_hosts.signatures()


@pytest.mark.parametrize(
    ("names", "host", "port", "alias", "counts"),
    [
        ("box.example", "box.example", 2222, None, True),
        ("[box.example]:2222", "box.example", 2222, "db", False),
        ("db", "box.example", 2222, "DB", True),
        ("[db]:2222", "box.example", 2222, "db", False),
        ("10.0.0.0/8", "10.0.0.7", 22, None, False),
        ("10.0.0.7", "10.7", 22, None, True),
        ("10.7", "10.7", 22, None, True),
        ("[fe80::7]:2222", "FE80:0::7", 2222, None, True),
        ("[fe80::7%lo]:2222", "FE80:0::7%lo", 2222, None, True),
        ("fe80::7", "fe80::7%lo", 22, None, False),
        ("10.0.0.10", "10.0.0.0xa", 22, None, True),
        ("[box.example]:*", "box.example", 2222, None, True),
    ],
)
def test_the_name_alone_decides(
    tmp_path: Path, names: str, host: str, port: int, alias: str | None, counts: bool
) -> None:
    assert bool(trusted(tmp_path, line(names), host, port, alias).keys) == counts


def test_what_stands_with_the_port_hides_what_stands_without_it(tmp_path: Path) -> None:
    text = line("[box.example]:2222") + line("box.example", OTHER)
    assert [one.key for one in trusted(tmp_path, text, port=2222).keys] == [KEY]
    text = "@cert-authority " + line("[box.example]:2222", OTHER) + line("box.example")
    said = trusted(tmp_path, text, port=2222)
    assert ([one.key for one in said.keys], [one.key for one in said.authorities]) == ([KEY], [OTHER])


@pytest.mark.parametrize("name", ["box.example", "[box.example]:2222", "10.0.0.7", "[10.0.0.7]:2222"])
def test_a_key_that_is_revoked_under_any_of_the_names_stays_so(tmp_path: Path, name: str) -> None:
    """ssh looks for the first name alone where a key stands there; to refuse more does no harm."""
    for at in ("box.example", "[box.example]:2222"):
        known = known_hosts.load(entries(tmp_path, line(at) + "@revoked " + line(name)))
        addresses = known_hosts.names_of("10.0.0.7", 2222)
        said = known.trusted(known_hosts.names_of("box.example", 2222), addresses)
        assert [one.key for one in said.revoked] == [KEY]


def test_a_key_that_stands_under_another_name_is_told_by_it(tmp_path: Path) -> None:
    def told(text: str) -> str:
        error = refused(tmp_path, text)
        assert (error.code, error.hint) == ("HOST_KEY_UNKNOWN", "rbee nodes trust 'n 1'")
        return error.message.partition("; ")[2].replace(str(tmp_path), "")

    but = ", but only its own name counts"
    assert told(line("a", OTHER) + line("10.0.0.7")) == (
        f"this very key is known as 10.0.0.7 (/known_hosts line 2){but}"
    )
    assert told(line("older,10.0.0.7")) == f"this very key is known as 10.0.0.7 (/known_hosts line 1){but}"
    assert told(line("older")) == f"this very key is known as older (/known_hosts line 1){but}"
    assert told("@revoked " + line("older")) == ""
    path = tmp_path / "hashed"
    for name, shown in (("10.0.0.7", "10.0.0.7"), ("older", "a name that is hashed")):
        path.write_text(line(name))
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
        assert told(path.read_text()) == f"this very key is known as {shown} (/known_hosts line 1){but}"


def refused(
    directory: Path,
    text: str,
    presented: asyncssh.SSHKey | None = KEY,
    reason: str = "Host key is not trusted",
) -> HostKeyUnknown | HostKeyChanged:
    target = destination.of_node(Node("n 1", "box.example", user="ada"))
    error = asyncssh.HostKeyNotVerifiable(f"{reason} for host box.example")
    known = known_hosts.load(entries(directory, text))
    return host_key_refused(target, known, presented, error, address="10.0.0.7")


def test_unknown_changed_and_revoked_are_told_apart(tmp_path: Path) -> None:
    unknown = refused(tmp_path, line("other", OTHER))
    assert (unknown.code, unknown.hint) == ("HOST_KEY_UNKNOWN", "rbee nodes trust 'n 1'")
    assert unknown.details["fingerprint"] == KEY.get_fingerprint()
    changed = refused(tmp_path, line("other") + line("box.example", OTHER))
    assert changed.code == "HOST_KEY_CHANGED"
    assert (changed.details["line"], changed.details["known_fingerprint"]) == (2, OTHER.get_fingerprint())
    assert changed.hint is not None
    assert f"ssh-keygen -R box.example -f {tmp_path}/known_hosts" in changed.hint
    somebodys = refused(tmp_path, "@revoked " + line("*", OTHER))
    assert somebodys.code == "HOST_KEY_UNKNOWN", "another key was revoked"
    text = line("box.example") + "@revoked " + line("*")
    revoked = refused(tmp_path, text, None, "Host key is revoked")
    assert (revoked.code, revoked.details["line"]) == ("HOST_KEY_CHANGED", 2)
    authority = refused(tmp_path, "", None, "Host CA key is not trusted")
    assert authority.message.endswith("is not trusted: Host CA key is not trusted")


def test_a_line_for_many_hosts_is_not_removed_for_one(tmp_path: Path) -> None:
    """ssh-keygen -R takes the whole line away."""
    path = tmp_path / "known_hosts"
    changed = refused(tmp_path, line("a") + line("*.example", OTHER))
    assert changed.hint == (
        f"if you know why it changed: ${{EDITOR:-vi}} +2 {path}   "
        "# append ,!box.example to its names; then: rbee nodes trust 'n 1'"
    )
    assert refused(tmp_path, line("a") + line("*.example,!box.example", OTHER)).code == "HOST_KEY_UNKNOWN"


def test_a_key_that_has_changed_is_compared_with_its_like(tmp_path: Path) -> None:
    changed = refused(tmp_path, line("box.example", RSA) + line("box.example", OTHER))
    assert (changed.details["line"], changed.details["known_fingerprint"]) == (2, OTHER.get_fingerprint())


def fetched(path: Path, name: str = "[box.example]:2222") -> PresentedKey:
    text = " ".join(KEY.export_public_key("openssh").decode().split()[:2])
    fingerprint, kind = KEY.get_fingerprint(), KEY.get_algorithm()
    return PresentedKey("n", "box.example", 2222, name, kind, fingerprint, text, str(path), known=False)


@pytest.mark.parametrize(
    "before",
    [None, "", line("a"), line("a").rstrip("\n"), "# only a comment"],
    ids=["no file", "empty", "a line", "no line end", "a comment"],
)
def test_a_trusted_key_is_a_line_that_ssh_finds(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "new" / "known_hosts"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)
    trust.save(fetched(path))
    assert path.read_text().startswith(before or "")
    assert path.stat().st_mode & 0o077 in (0, 0o044), "as it was, or ours alone"
    assert looked_up(path) == KEY.get_fingerprint()


def looked_up(path: Path) -> str:
    """The fingerprint of [box.example]:2222, as ssh-keygen finds it there."""
    look = ["ssh-keygen", "-l", "-F", "[box.example]:2222", "-f", str(path)]
    shown = subprocess.run(look, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    return next(word for word in shown.split() if word.startswith("SHA256:"))


def test_among_hashed_names_the_new_one_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("a") + line("b", OTHER))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    trust.save(fetched(path))
    assert "box.example" not in path.read_text()
    assert looked_up(path) == KEY.get_fingerprint()


def test_a_place_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    for place in (Path("/dev/null"), tmp_path, tmp_path / "known_hosts" / "below"):
        (tmp_path / "known_hosts").touch()
        with pytest.raises(UsageInvalid):
            trust.save(fetched(place))


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    before = entries(tmp_path, line("one.example"))
    assert entries(tmp_path, line("one.example") + line("two.example"))[:1] == before
    assert found(tmp_path, line("one.example") + line("two.example"), "two.example") != []
