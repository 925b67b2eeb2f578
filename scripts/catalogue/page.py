"""The page itself, as Markdown. Used by scripts/failures and its test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from catalogue.sites import Site, sites
from catalogue.tests import tests
from rbee_ssh import errors

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "failures.md"
# Real machines, real engines, the real command.
REAL = ("tests/nodes", "tests/e2e")
HEADER = """# Failures

Every error a user can meet: its code, the exit status, when it comes, the words, and the tests that provoke
it. This page is generated from the code and the tests: run `scripts/failures` after a change. ‹name› stands
for what is known only then; ( a | b ) for one or the other. The text goes to stderr as `error: MESSAGE` and
`hint: NEXT STEP`; with `--json` it is `{"error":{"code","message","hint","details"}}` on stdout.
"""


def classes() -> dict[str, type[errors.RbeeError]]:
    """Every class that has a code of its own, by code."""
    return {one.code: one for one in _below(errors.RbeeError) if "code" in vars(one)}


def _below(parent: type[errors.RbeeError]) -> Iterator[type[errors.RbeeError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _below(child)


def provoked() -> dict[str, list[str]]:
    """The tests that provoke each code on real machines. One that only makes such an error is none."""
    return tests(ROOT, REAL, {code: {code, one.__name__} for code, one in classes().items()})


def page() -> str:
    """docs/failures.md."""
    known, by = classes(), provoked()
    said = sites(sorted((ROOT / "rbee_ssh").rglob("*.py")), [one.__name__ for one in known.values()])
    when = _when()
    parts = [HEADER]
    for code, one in known.items():
        lines = [f"## {code}", f"Exit status {one.exit_status}: {when.get(code, '')}."]
        if rows := sorted(said[one.__name__]):
            lines.append("\n".join(_said(row) for row in rows))
        lines.append("Provoked by:\n\n" + "\n".join(f"- `{test}`" for test in by[code]))
        parts.append("\n\n".join(lines) + "\n")
    return "\n".join(parts)


def _said(site: Site) -> str:
    hint = f"\n  - hint: {_code(site.hint)}" if site.hint else ""
    return f"- {_code(site.message)}{hint}"


def _code(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _when() -> dict[str, str]:
    """What docs/architecture.md says of each code."""
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2]
    return dict(re.findall(r"^\| ([A-Z_]+) \| \d+ \| (.+?) \|$", table, re.MULTILINE))
