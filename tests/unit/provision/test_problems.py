"""Errors of a setup say the step, the last lines, and what to type."""

from __future__ import annotations

import pytest

from rbee_ssh.errors import ChecksumMismatch, SetupFailed
from rbee_ssh.provision.link import Link, ScriptOutput
from rbee_ssh.provision.problems import _SAYS, failed


def link(ssh: str = "ada@desk.example") -> Link:
    return Link("desk", ssh, None, None, lambda: None)  # type: ignore[arg-type]


def error(problem: str, *, ssh: str = "ada@desk.example", **values: str) -> SetupFailed:
    said = ScriptOutput(1, {"problem": problem, "step": "making it", **values})
    found = failed(link(ssh), said, ["one", "two"])
    assert isinstance(found, SetupFailed)
    return found


def test_step_lines_and_status_are_told() -> None:
    found = error("install")
    assert found.message == "desk: making it: pip could not install it\none\ntwo"
    assert found.details == {"node": "desk", "step": "making it", "status": 1, "output": ["one", "two"]}


def test_warnings_do_not_hide_the_error() -> None:
    said = ScriptOutput(1, {"problem": "install"})
    last = [*(f"  WARNING: try {n}" for n in range(9)), "ERROR: no"]
    found = failed(link(), said, last)
    assert found.message == "desk: pip could not install it\nERROR: no"
    assert found.details["output"] == last
    assert failed(link(), said, last[:2]).message.endswith("WARNING: try 1")


@pytest.mark.parametrize("problem", _SAYS)
def test_each_problem_has_words_and_a_way_on(problem: str) -> None:
    found = error(problem)
    assert _SAYS[problem] in found.message
    assert "rbee nodes setup desk" in str(found.hint) or "--archive" in str(found.hint)


@pytest.mark.parametrize(
    ("system", "command"),
    [
        ("debian ", "apt-get install python3-venv"),
        ("linuxmint ubuntu debian", "apt-get install python3-venv"),
        ("rocky rhel centos fedora", "dnf install python3"),
        ("arch ", "pacman -S python"),
    ],
)
def test_the_package_of_the_distribution_is_named(system: str, command: str) -> None:
    hint = f"ssh -t ada@desk.example 'sudo {command}' && rbee nodes setup desk   # without root: install uv"
    assert error("no-venv", system=system).hint == f"{hint} there"
    assert str(error("no-venv", ssh="", system=system).hint).startswith(f"sudo {command} && ")


def test_a_distribution_nobody_knows() -> None:
    assert "install python3 with its venv module on desk, or uv" in str(error("no-python", system="x y").hint)
    assert "rm -rf" not in str(error("no-python", system="debian;rm -rf").hint)


def test_a_script_that_ended_without_a_word() -> None:
    found = failed(link(), ScriptOutput(137, {"step": "installing xllamacpp"}), [])
    assert "installing xllamacpp: it ended early: exit status 137, killed" in found.message


def test_an_engine_that_dies_says_of_what() -> None:
    assert "SIGILL" in error("broken", status="132").message


def test_a_checksum_has_a_code_of_its_own() -> None:
    found = failed(link(), ScriptOutput(1, {"problem": "sha256", "sha256": "ab" * 32}), [])
    assert isinstance(found, ChecksumMismatch)
    assert "ab" * 32 in found.message
