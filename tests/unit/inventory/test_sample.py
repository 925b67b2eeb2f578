"""The sample at the top of the repository is the manual of the format, so it is held to the format.

Its prose stands behind "# ", its switched-off settings behind "#" alone.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.inventory import Inventory, ModelPreset, Node, Timeouts, load, parse, schema

SAMPLE = Path(__file__).parents[3] / "inventory.toml"
TEXT = SAMPLE.read_text()
FULL = re.sub(r"^#(?=[^ #\n])", "", TEXT, flags=re.MULTILINE)
HOME = Path("/home/me")


@pytest.fixture
def full() -> Inventory:
    return parse(FULL, SAMPLE, home=HOME)


def shown(section: str) -> set[str]:
    tables: dict[str, Any] = tomllib.loads(FULL)[section]
    if section in ("defaults", "timeouts"):
        return set(tables)
    return {key for table in tables.values() for key in table}


def test_as_it_stands_it_is_this_machine_and_nothing_else() -> None:
    inventory = parse(TEXT, SAMPLE, home=HOME)
    assert inventory == Inventory(nodes={"localhost": Node(name="localhost", host="localhost")}, path=SAMPLE)
    assert inventory.nodes["localhost"].embedded


def test_as_it_stands_it_may_be_found(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(TEXT)
    (tmp_path / "inventory.toml").chmod(0o644)
    assert list(load(None, environ={}, cwd=tmp_path, warn=lambda text: None).nodes) == ["localhost"]


def test_it_parses_with_every_setting_switched_on(full: Inventory) -> None:
    assert list(full.nodes) == ["localhost", "workstation", "bastion"]
    assert full.nodes["localhost"].embedded


def test_it_shows_every_key() -> None:
    assert shown("nodes") == set(schema.NODE)
    assert shown("models") == set(schema.MODEL)
    assert shown("timeouts") == set(schema.TIMEOUTS)
    assert shown("defaults") >= set(schema.DEFAULTS) - set(schema.NODE)
    assert set(tomllib.loads(FULL)) == set(schema.SECTIONS)


def test_the_keys_are_the_fields_of_the_types() -> None:
    assert set(schema.NODE) == {field.name for field in fields(Node)} - {"name"}
    assert set(schema.MODEL) == {field.name for field in fields(ModelPreset)} - {"name"}
    assert set(schema.TIMEOUTS) == {field.name for field in fields(Timeouts)}


def test_the_defaults_it_shows_are_the_defaults(full: Inventory) -> None:
    assert full.timeouts == Timeouts()
    assert full.idle_timeout == Inventory(nodes={}).idle_timeout
    bastion = full.nodes["bastion"]
    assert bastion == Node(name="bastion", host=bastion.host)


def test_every_switched_off_line_is_a_setting_and_every_prose_line_is_none() -> None:
    for line in TEXT.splitlines():
        if line.startswith("#") and not line.startswith("# ") and line != "#":
            assert re.match(r"#(\[[a-z.]+\]$|[a-z_]+ = )", line), line
        if line.startswith("# "):
            assert not re.match(r"# +[a-z_]+ = |# +\[\w+\.[a-z]+\]$", line), line
