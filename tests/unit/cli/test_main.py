"""How a command line is read, and what `rbee` prints when it is wrong or fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from rbee_ssh.cli.main import COMMANDS

Rbee = Callable[..., Any]


@pytest.fixture
def probe(rbee: Rbee, monkeypatch: pytest.MonkeyPatch) -> Rbee:
    """`rbee` with a command that ends as a test wants it."""
    monkeypatch.setitem(COMMANDS, "probe", "unit.cli.probe:probe")
    return rbee


def test_help_is_an_answer(rbee: Rbee) -> None:
    for args in (("--help",), ("infer", "-h"), ("workers", "--help"), ("workers", "stop", "--help")):
        done = rbee(*args)
        assert done.status == 0 and done.stdout.startswith("Usage: rbee") and not done.stderr


def test_no_command_shows_the_help_on_stderr(rbee: Rbee) -> None:
    for args in ((), ("nodes",)):
        done = rbee(*args)
        assert (done.status, done.stdout) == (2, "")
        assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("infre",), 'did you mean "infer"?'),
        (("infer", "--modle", "x", "Hi"), "--modle"),
        (("infer", "--top-p", "2", "Hi"), "2"),
        (("infer", "--temperature", "nan", "Hi"), "finite"),
        (("cleanup", "--idle", "soon"), "soon"),
        (("workers", "stop"), "expected one of"),
        (("workers", "stop", "w1", "--all"), "expected one of"),
        (("nodes", "trust", "localhost", "--yes"), "--fingerprint"),
        (("probe",), "KIND"),
        ((), "missing command"),
    ],
)
def test_wrong_usage(probe: Rbee, args: tuple[str, ...], words: str) -> None:
    if args:
        done = probe(*args)
        assert (done.status, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and words in done.stderr
        assert "Traceback" not in done.stderr
    done = probe(*args, "--json")
    assert done.status == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "USAGE_INVALID" and words in error["message"]


def test_wrong_usage_says_where_the_help_is(rbee: Rbee) -> None:
    for args in (("workers", "logs"), ("nodes", "trust", "localhost", "--yes")):  # click's error, and ours
        said = rbee(*args).stderr
        assert said.endswith(f"hint: rbee {args[0]} {args[1]} --help\n")


def test_a_group_without_a_command_is_wrong_usage_for_a_program(rbee: Rbee) -> None:
    done = rbee("--json", "nodes")
    assert done.status == 2
    assert json.loads(done.stdout)["error"]["message"] == "rbee nodes: no command given"


def test_json_after_two_dashes_is_a_prompt_and_no_option(rbee: Rbee) -> None:
    done = rbee("infer", "--bogus", "--", "--json")
    assert (done.status, done.stdout) == (2, "")


@pytest.mark.parametrize("place", ["before", "after", "between"])
def test_global_options_work_before_and_after_the_command(probe: Rbee, place: str) -> None:
    given = ["--json", "-q", "-v", "--debug", "--inventory", "x.toml"]
    args = {
        "before": [*given, "probe", "settings"],
        "after": ["probe", "settings", *given],
        "between": [*given[:2], "probe", *given[2:], "settings"],
    }[place]
    done = probe(*args)
    assert done.stdout.splitlines() == [
        '{"as_json":true,"quiet":true,"verbose":true,"debug":true}',
        '"x.toml"',
    ]


def test_the_last_inventory_given_counts(probe: Rbee) -> None:
    done = probe("--inventory", "a", "probe", "settings", "--inventory", "b")
    assert done.stdout.splitlines()[1] == '"b"'


def test_an_error_of_ours(probe: Rbee) -> None:
    done = probe("probe", "error")
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr == "error: gpu\\x1b[2J1 is off\nhint: rbee nodes status\n"
    done = probe("--json", "probe", "error")
    assert (done.status, done.stderr) == (1, "")
    assert json.loads(done.stdout)["error"]["details"] == {"tries": 3}


def test_an_error_inside_a_task_group_is_the_one_that_is_told(probe: Rbee) -> None:
    assert probe("probe", "group").stderr == "error: inner\n"


def test_a_command_may_choose_its_exit_status(probe: Rbee) -> None:
    assert probe("probe", "exit").status == 1
