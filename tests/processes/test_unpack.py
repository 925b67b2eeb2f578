"""Archives that are well meant, and some that are not: unpack.py as the node runs it."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.provision import unpack

SOURCE = Path(unpack.__file__).read_text()
MIB = 2**20


# Of memory, for what may be an archive of gigabytes.
MIB_AT_MOST = 96
MEMORY_OF_A_CHILD = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], check=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def run(archive: Path) -> tuple[int, str]:
    directory = archive.parent / "out"
    directory.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-c", MEMORY_OF_A_CHILD),
            *(sys.executable, "-I", "-c", SOURCE, archive, directory),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(done.stdout) < MIB_AT_MOST * (1024 if sys.platform != "darwin" else 2**20)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def tar(path: Path, *members: tuple[str, bytes, str], mode: int = 0o644) -> Path:
    """Members: name, type, target or content."""
    with tarfile.open(path, "w:gz") as opened:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                opened.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                opened.addfile(info)
    return path


REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def test_a_release_archive(tmp_path: Path) -> None:
    members = [
        ("./", DIR, ""),
        ("build/bin/libllama.so", SYM, "libllama.so.0"),
        ("build/bin/libllama.so.0", REG, "library"),
        ("build/bin/llama-server", REG, "program"),
        ("build/bin/again", LNK, "build/bin/llama-server"),
    ]
    assert run(tar(tmp_path / "a.tar.gz", *members, mode=0o4644)) == (0, "")
    bin = tmp_path / "out/build/bin"
    assert (bin / "libllama.so").read_text() == "library"
    assert (bin / "again").read_text() == "program"
    assert (bin / "llama-server").stat().st_mode & 0o7777 == 0o755
    assert (bin / "libllama.so.0").stat().st_mode & 0o7777 == 0o644


def test_a_zip_has_no_modes_to_speak_of(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("llama/", "")
        zipped.writestr("llama/llama-server", "program")
        link = zipfile.ZipInfo("llama/link")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "llama-server")
    assert run(tmp_path / "a.zip") == (0, "")
    assert os.access(tmp_path / "out/llama/llama-server", os.X_OK)
    assert (tmp_path / "out/llama/link").read_text() == "program"


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", REG, "x")],
        [("/tmp/rbee-evil", REG, "x")],
        [("a/../../evil", REG, "x")],
        [("a", SYM, "/etc")],
        [("a", SYM, "../..")],
        [("a", SYM, ".."), ("a/evil", REG, "x")],
        [("d", DIR, ""), ("d/up", SYM, ".."), ("way", SYM, "d/up/..")],
        [("hard", LNK, "../../evil")],
        [("pipe", tarfile.FIFOTYPE, "")],
        [("device", tarfile.CHRTYPE, "")],
        [("twice", REG, "x"), ("twice", REG, "y")],
        [("\x1b[31m/../../x", REG, "x")],
    ],
)
def test_nothing_leads_outside(tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
    status, said = run(tar(tmp_path / "a.tar.gz", *members))
    assert status == 1
    assert said.startswith("the archive ")
    assert "\x1b" not in said
    assert not (tmp_path / "evil").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "out"]


def test_a_zip_that_leads_outside(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("../evil", "x")
    assert run(tmp_path / "a.zip")[0] == 1
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("cut", [10, 60, -20])
def test_a_torn_archive_is_an_error(tmp_path: Path, cut: int) -> None:
    whole = tar(tmp_path / "a.tar.gz", ("llama-server", REG, "".join(map(str, range(999)))))
    whole.write_bytes(whole.read_bytes()[:cut])
    status, said = run(whole)
    assert status == 1
    assert "cannot be unpacked" in said


def test_a_bomb_is_stopped_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "LARGEST", 10)
    archive = tar(tmp_path / "a.tar.gz", ("a", REG, "x" * 11))
    with pytest.raises(SystemExit, match="unpacks to more"):
        unpack.main(str(archive), str(tmp_path))


def test_a_link_to_megabytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        zipped.writestr("llama-server", "program")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        link.compress_type = zipfile.ZIP_DEFLATED
        zipped.writestr(link, bytes(200 * MIB))
    status, said = run(tmp_path / "a.zip")
    assert (status, "leads to more than a path" in said) == (1, True), said


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_megabytes(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 600 * MIB
    # As members of gzip, which stand one behind the other: packed once.
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf()) + gzip.compress(bytes(MIB)) * 600)
    status, said = run(tmp_path / "a.tar.gz")
    assert (status, said) == (1, "the archive cannot be unpacked: it takes too much memory\n")


def test_more_names_than_any_release_has(tmp_path: Path) -> None:
    one = tarfile.TarInfo("./")
    one.type = DIR
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as packed:
        packed.write(one.tobuf() * (unpack.MOST + 1))
    status, said = run(tmp_path / "a.tar.gz")
    assert (status, "more than" in said) == (1, True), said


def test_what_comes_after_the_end_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar.gz", ("a", REG, "x"))
    with gzip.open(archive, "ab") as packed:
        packed.write(bytes(3 * MIB))
    monkeypatch.setattr(unpack, "LARGEST", 2 * MIB)
    with pytest.raises(SystemExit, match="unpacks to more"):
        unpack.main(str(archive), str(tmp_path))


def test_a_size_below_nothing(tmp_path: Path) -> None:
    """Which leads some versions of Python's tarfile round in circles."""
    info = tarfile.TarInfo("a")
    header = bytearray(info.tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with gzip.open(tmp_path / "a.tar.gz", "wb") as packed:
        packed.write(header + bytes(2048))
    assert run(tmp_path / "a.tar.gz")[0] == 1


def test_directories_without_end(tmp_path: Path) -> None:
    status, said = run(tar(tmp_path / "a.tar.gz", ("d/" * 200 + "a", REG, "x")))
    assert (status, "too deep" in said) == (1, True), said


NAMES = st.lists(st.sampled_from(["..", ".", "a", "b", "", "/"]), min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([REG, SYM, LNK, DIR])


@given(st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=5))
def test_whatever_is_in_it_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str]]
) -> None:
    outer = tmp_path_factory.mktemp("u")
    archive = tar(outer / "a.tar.gz", *members)
    inner = outer / "x/out"
    inner.mkdir(parents=True)
    with contextlib.suppress(SystemExit, Exception):
        unpack.main(str(archive), str(inner))
    assert sorted(path.name for path in outer.iterdir()) == ["a.tar.gz", "x"]
    assert [path.name for path in (outer / "x").iterdir()] == ["out"]
