"""What --archive may name."""

from __future__ import annotations

import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from rbee_ssh.errors import ChecksumMismatch, UsageInvalid
from rbee_ssh.provision.archive import archive


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(__file__, "llama-server")
    return path


def test_a_file_is_known_by_its_content(packed: Path) -> None:
    digest = sha256(packed.read_bytes()).hexdigest()
    for given in (None, digest, f"SHA256:{digest.upper()}"):
        found = archive(str(packed), given)
        assert (found.path, found.url, found.sha256, found.identity) == (packed, None, digest, digest)


def test_a_file_with_another_checksum_is_refused_here(packed: Path) -> None:
    with pytest.raises(ChecksumMismatch):
        archive(str(packed), "0" * 64)


@pytest.mark.parametrize("mode", ["w", "w:xz"])
def test_tars_of_other_kinds(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(__file__, "llama-server")
    assert archive(str(path), None).path == path


def test_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("llama-server", "x")
    assert archive(str(path), None).path == path


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("/nowhere/llama.zip", None),
        (__file__, None),
        ("/tmp", None),
        ("ftp://host/llama.zip", None),
        ('https://host/"\nurl = "file:///etc/passwd', None),
        ("https://host/a b.zip", None),
        ("https://[host/a.zip", None),
        ("https:///a.zip", None),
        ("http://host/a.zip", None),
        ("https://host/a.zip", "abc"),
        ("https://host/a.zip", "g" * 64),
    ],
)
def test_what_is_refused(text: str, digest: str | None) -> None:
    with pytest.raises(UsageInvalid):
        archive(text, digest)


def test_a_url_is_known_by_its_checksum_or_by_itself() -> None:
    assert archive("https://h/a.zip", "a" * 64).identity == "a" * 64
    one, other = archive("https://h/a.zip", None), archive("https://h/b.zip", None)
    assert one.sha256 is None
    assert one.identity != other.identity
    assert "secret" not in repr(archive("https://u:secret@h/a.zip", None))


def test_over_http_only_with_a_checksum() -> None:
    with pytest.raises(UsageInvalid) as caught:
        archive("http://u:hunter2@h/a.zip?sig=hunter2", None)
    assert "changed on its way" in caught.value.message
    assert caught.value.hint == "rbee nodes setup NAME --archive http://h/a.zip --sha256 HEX   # or https"
    assert archive("http://h/a.zip", "a" * 64).url == "http://h/a.zip"
