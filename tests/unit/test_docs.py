"""What the documents say is so: links lead somewhere, commands parse, keys, codes and files are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rbee_ssh import errors
from rbee_ssh.cli.context import Cli
from rbee_ssh.cli.main import root
from rbee_ssh.errors import RbeeError
from rbee_ssh.inventory import parse, schema

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# What ends a command or begins one inside another, as shlex tells them apart from words.
_BETWEEN = re.compile(r"[|&;()<>]+")

documents = pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks: language and content."""
    return ((found[1], found[2]) for found in _FENCE.finditer(text))


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives to headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(text))
    }


def broken_links(document: Path) -> list[str]:
    """Relative links that lead nowhere."""
    broken = []
    for target in _LINK.findall(prose(document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken


def shown_lines(text: str) -> Iterator[str]:
    """The lines of the blocks that a reader may type."""
    for language, content in blocks(text):
        for line in content.splitlines():
            if language == "console":
                if line.startswith("$ "):
                    yield line[2:]
            elif language in ("sh", "text"):
                yield line


def mentioned(text: str) -> Iterator[str]:
    """The commands in the prose, which need not be whole: `rbee nodes trust`."""
    return (" ".join(found[1].split()) for found in re.finditer(r"`(rbee [^`]+)`", prose(text)))


def commands(line: str) -> Iterator[list[str]]:
    """The words behind each `rbee` that a shell would start in this line, those inside of $(…) first."""
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from commands(inner)
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "WORD", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return  # an apostrophe: prose
    simple: list[list[str]] = [[]]
    for word in words:
        if _BETWEEN.fullmatch(word):
            simple.append([])
        else:
            simple[-1].append(word)
    yield from (found[1:] for found in simple if found[:1] == ["rbee"])


def refused(args: list[str], *, whole: bool = True) -> str | None:
    """Why the command line is none, without running it; None when it is one (not `whole`: begins one)."""
    command: click.Command = root
    rest = [word for word in args if word != "…"]
    parent: click.Context | None = None
    name = "rbee"
    try:
        while True:
            parent = command.make_context(name, rest, parent=parent, obj=Cli())
            if not isinstance(command, click.Group):
                return None
            found, below, rest = command.resolve_command(parent, [*parent._protected_args, *parent.args])
            if found is None or below is None:
                return "no such command"
            name, command = found, below
    except click.exceptions.Exit:
        return None  # --version, --help
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError) as error:
        return error.format_message() if whole else None
    except click.ClickException as error:
        return error.format_message()


def codes() -> dict[str, int]:
    """The error codes that a user can meet, with their exit status."""
    found: dict[str, int] = {}
    pending: list[type[RbeeError]] = [RbeeError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        if "code" in vars(error) and error.__module__ == errors.__name__:
            found[error.code] = error.exit_status
    return found


@documents
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`\n[1](#a-b) [2](page.md#none) [3](gone.md) [4](https://example.org)\n```\n[5](x)\n```\n"
    )
    assert broken_links(page) == ["page.md#none", "gone.md"]


@documents
def test_commands_parse(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    found = [(args, refused(args)) for line in shown_lines(text) for args in commands(line)]
    found += [(args, refused(args, whole=False)) for line in mentioned(text) for args in commands(line)]
    assert [(args, why) for args, why in found if why is not None] == []


def test_commands_are_found_where_a_shell_would_start_them() -> None:
    assert list(commands('rbee tunnel "$(rbee workers start -m tiny)" --port 80 | jq .x; rbee cleanup')) == [
        ["workers", "start", "-m", "tiny"],
        ["tunnel", "WORD", "--port", "80"],
        ["cleanup"],
    ]
    assert list(commands("the words rbee and infer, or somebody's rbee")) == []
    assert sum(1 for line in shown_lines(README) for _ in commands(line)) > 15
    assert sum(1 for line in mentioned(README) for _ in commands(line)) > 5


@pytest.mark.parametrize(
    "line", ["infre", "infer --modle x", "nodes sets", "infer --max-tokens many", "workers list extra"]
)
def test_a_command_that_is_none_is_seen(line: str) -> None:
    assert refused(line.split()) is not None
    assert refused(line.split(), whole=False) is not None


def test_a_mention_need_not_be_whole() -> None:
    for args in (["nodes", "trust"], ["cron"]):
        assert refused(args) is not None
        assert refused(args, whole=False) is None


def test_the_inventories_of_the_readme_are_inventories() -> None:
    shown = [content for language, content in blocks(README) if language == "toml"]
    assert shown
    for content in shown:
        assert parse(content, Path("/inventory.toml")).nodes


def test_the_keys_that_the_readme_names_are_all_there_are() -> None:
    named = set(re.findall(r"`([a-z_]+)`", section(README, "Inventory")))
    assert named == {*schema.NODE, *schema.MODEL, "model", "idle_timeout"}
    assert {"model", "idle_timeout"} == schema.DEFAULTS.keys() - schema.NODE.keys()


def test_the_table_of_errors_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| (\d+) \|", section(ARCHITECTURE, "Errors"), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a code stands twice"
    assert {code: int(status) for code, status in rows} == codes()


def test_every_file_has_its_line() -> None:
    """The tables under "Rooms": each names the files of one directory, and all of them."""
    shown: dict[str, list[str]] = {}
    for room in section(ARCHITECTURE, "Rooms").split("\n### ")[1:]:
        name = re.split(r"[:\n]", room)[0]
        rows = re.findall(r"^\| (`[^|]+) \|", room, re.MULTILINE)
        shown["" if name == "the ground" else name] = re.findall(r"`([\w.]+)`", " ".join(rows))
    package = ROOT / "rbee_ssh"
    there: dict[str, list[str]] = {}
    for path in package.rglob("*"):
        if path.suffix in (".py", ".sh"):
            place = path.parent.relative_to(package).as_posix()
            there.setdefault("" if place == "." else place, []).append(path.name)
    assert {room: sorted(files) for room, files in shown.items()} == {
        room: sorted(files) for room, files in there.items()
    }


def test_the_tests_that_documents_name_are_there() -> None:
    named = {name for document in DOCS for name in _TEST.findall(document.read_text(encoding="utf-8"))}
    assert named
    gone = [
        f"{file}::{test}"
        for file, test in sorted(named)
        if not (ROOT / file).is_file() or f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert gone == []
