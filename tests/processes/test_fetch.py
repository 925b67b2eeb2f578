"""fetch.sh and its process under every shell that may be a node's `sh`, and what their ends mean."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hubkit import Hub
from processes.shells import SHELLS, Shell, ending_processes, make
from unit.ssh.servers import Process, more, talk

from rbee_ssh.errors import RbeeError, ResponseInvalid
from rbee_ssh.models import fetch_failure
from rbee_ssh.models.fetch import FETCH, GET, JOB, STORE, fetch
from rbee_ssh.models.reference import UrlRef
from rbee_ssh.models.remote import Remote, RemoteFile
from rbee_ssh.node.scripts import LIB, compose, source
from rbee_ssh.reporter import SilentReporter
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.quote import wrap

CONTENT = b"GGUF" + secrets.token_bytes(100_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PLACE = f"hf/org/repo/{DIGEST[:12]}"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    with ending_processes(make(request.param, tmp_path)) as shell:
        for tool in ("curl",) if request.param == "applets" else ():
            Path(shell.path.split(":")[0], tool).symlink_to(shutil.which(tool) or tool)
        yield shell


def ask(shell: Shell, mode: str, link: str = "", place: str = PLACE) -> list[list[str]]:
    """The lines of fetch.sh, as words."""
    words = [mode, "~/models [x]", place, "20", "3", "10", "2"]
    words += [source(LIB) + source(STORE) + source(JOB), source(GET)]
    words += ["a 'b'.gguf", str(len(CONTENT)), DIGEST, "", f'{{"sha256":"{DIGEST}"}}']
    text = wrap(compose(LIB, STORE, FETCH), words, "marker", payload=True)
    process = subprocess.Popen(
        ["sh"],
        executable=shutil.which("sh", path=shell.path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={"HOME": str(shell.home), "PATH": shell.path},
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(text)
    process.stdin.flush()
    while process.stdout.readline() != "marker\n":
        pass
    out, err = process.communicate(link and f"{link}\n", timeout=60)
    assert not err
    return [line.split("\t") for line in out.splitlines()]


def test_every_shell_fetches_finds_and_links(shell: Shell) -> None:
    target = shell.home / "models [x]" / PLACE / "a 'b'.gguf"
    with Hub() as hub:
        hub.add("org/repo", {"m.gguf": CONTENT})
        assert ask(shell, "look") == [["at", "0", "absent"]]
        started = ask(shell, "start", hub.link(CONTENT))
        assert started[0] == ["new", "1"]
        assert started[-1][0] == "file", started
        assert started[-1][3] == str(target)
        assert target.read_bytes() == CONTENT
        assert (target.parent / f"{target.name}.json").stat().st_mode & 0o777 == 0o644
        assert not list((shell.home / "models [x]" / ".incoming").iterdir())
        assert [line[0] for line in ask(shell, "look")] == ["at", "file"]
        other = ask(shell, "look", place="hf/org/other/0123456789ab")
        assert other[-1][0] == "file"
        assert Path(other[-1][3]).stat().st_ino == target.stat().st_ino
        assert len(hub.fetches) == 1
    assert not list(shell.root.glob("fetches/*/*.url"))


def planted(shell: Shell, content: bytes, place: str = PLACE, **said: object) -> Path:
    """A file where that one belongs, with a note of its own."""
    target = shell.home / "models [x]" / place / "a 'b'.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    note = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), **said}
    Path(f"{target}.json").write_text(json.dumps(note, separators=(",", ":")))
    return target


def test_what_lies_there_and_is_another_file_is_not_found(shell: Shell) -> None:
    other = bytes(len(CONTENT))
    target = planted(shell, other, revision=DIGEST)
    assert ask(shell, "look") == [["at", "0", "absent"]]
    with Hub() as hub:
        hub.add("org/repo", {"m.gguf": CONTENT})
        # By the digits of the directory it is an impostor.
        assert ask(shell, "start", hub.link(CONTENT))[-1][0] == "file"
        assert target.read_bytes() == CONTENT
        # A directory that tells nothing of it: it stays.
        part = planted(shell, other, "hf/org/repo/0123456789ab")
        assert ask(shell, "look", place="hf/org/repo/0123456789ab")[-1][2] == "absent", "nor linked over"
        last = ask(shell, "start", hub.link(CONTENT), place="hf/org/repo/0123456789ab")[-1]
        assert (last[2], part.read_bytes()) == ("failed other", other)


def test_a_server_that_sends_more_than_the_file_fills_no_disk(shell: Shell) -> None:
    with Hub() as hub:
        endless = b"GGUF" + bytes(3_000_000)
        hub.add("org/repo", {"m.gguf": endless})
        last = ask(shell, "start", hub.link(endless))[-1]
    state, got, _ = last[2].rsplit(" ", 2)
    assert state == "failed mismatch"
    assert len(CONTENT) < int(got) < len(CONTENT) + 2048, "cut near its end"
    assert not list(shell.home.rglob("*.part"))


REMOTE = Remote(
    UrlRef("https://example.org/m.gguf?secret"),
    "https://example.org/m.gguf",
    None,
    (RemoteFile("m", "url/h/0/m.gguf", 2**21, None),),
)


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (
            "failed tries curl 6 000",
            "DOWNLOAD_FAILED",
            "6 tries brought nothing, the last: the server's name",
        ),
        ("failed tries wget 4 000", "DOWNLOAD_FAILED", "the connection failed"),
        ("failed tries python3 1 000", "DOWNLOAD_FAILED", "python3 ended with 1"),
        ("failed tries curl 22 503", "DOWNLOAD_FAILED", "HTTP 503"),
        ("failed expired 403", "DOWNLOAD_FAILED", "expired"),
        ("failed directory", "DOWNLOAD_FAILED", "cannot be written"),
        ("failed nonsense", "DOWNLOAD_FAILED", "6 tries"),
        ("gone", "DOWNLOAD_FAILED", "at 1.0 of 2.0 MiB: the process that fetched is gone"),
        ("failed tool", "DOWNLOAD_FAILED", "neither curl"),
        ("failed full", "DISK_FULL", "filled"),
        ("failed mismatch 7 abc", "CHECKSUM_MISMATCH", "twice"),
        ("failed missing 404", "MODEL_NOT_FOUND", "404"),
        ("failed refused 403", "MODEL_FORBIDDEN", "403"),
        ("failed gguf", "MODEL_INVALID", "GGUF"),
        ("failed other", "CHECKSUM_MISMATCH", "another file"),
    ],
)
def test_every_end_has_its_error(state: str, code: str, said: str) -> None:
    error = fetch_failure.ended("n", REMOTE, state, 2**20, 6)
    assert (error.code, said in error.message) == (code, True), error.message
    assert "secret" not in str(error.as_json())


@pytest.mark.parametrize(
    ("problem", "locked", "code"),
    [
        (["short", "100", "7"], "", "DISK_SHORT"),
        (["short", "x", "\x1b"], "", "DISK_SHORT"),
        (["directory", "/m"], "", "SHELL_UNUSABLE"),
        (["cannot make /x"], "", "SHELL_UNUSABLE"),
        ([], "12 34 b", "NODE_LOCKED"),
    ],
)
def test_what_stands_in_the_way(problem: list[str], locked: str, code: str) -> None:
    with pytest.raises(RbeeError) as caught:
        fetch_failure.complain("n", REMOTE, problem, locked)
    assert caught.value.code == code


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"at\t0\tabsent\n", b"at\tx\t\n"])
def test_a_node_that_never_says_how_far_it_is_is_not_asked_for_ever(said: bytes) -> None:
    asked = 0

    async def shell(process: Process) -> None:
        nonlocal asked
        asked += 1
        text = b""
        while b"exit $?\n" not in text:
            text += await more(process)
        marker = re.findall(b"rbee-[0-9a-f]{16}", text)[0]
        process.stdout.write(b"\n" + marker + b"\n" + said)
        process.exit(0)

    async def links() -> list[str]:
        return ["https://example.org/m.gguf?secret"]

    async def work(connection: Connection) -> object:
        return await fetch(connection, REMOTE, "~/models", links, SilentReporter())

    with pytest.raises(ResponseInvalid, match="does not say how far"):
        talk(shell, work)
    assert asked <= 2


@pytest.mark.parametrize("code", ["²", "9" * 400, "4\u0664\u0664", "-404"])
def test_an_http_status_that_is_none_is_not_told(code: str) -> None:
    assert fetch_failure.why(["curl", "56", code]) == "the connection broke"
