"""docs/reference.md says what --help says."""

from __future__ import annotations

from pathlib import Path

from rbee_ssh.cli.help_pages import reference

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), (
        "run scripts/reference"
    )


def test_every_command_has_its_section() -> None:
    page = reference()
    for command in (
        "infer",
        "nodes status",
        "workers start",
        "workers logs",
        "cleanup",
        "cron install",
        "tunnel",
    ):
        assert f"## rbee {command}\n" in page
    assert page.count("--inventory PATH") == 1
