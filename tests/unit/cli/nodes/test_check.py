"""`rbee nodes check`, as it stands on a terminal and in a pipe."""

from __future__ import annotations

from unit.cli.terminals import pipe, terminal

from rbee_ssh.cli.console import Console
from rbee_ssh.cli.nodes.check import rows, show
from rbee_ssh.cli.text import width
from rbee_ssh.node.checks import Check

LONG = Check(
    "engine", "failed", "no llama.cpp server: " + "looked there, " * 20, fix="rbee nodes setup gpu1 " * 5
)
FOUND = (Check("host_key", "ok", "ssh-ed25519 SHA256:x\x1b[2J", 0.0123), LONG, Check("gpu", "not_tried"))


def test_a_block_in_a_pipe_is_not_folded_and_has_no_colour() -> None:
    with pipe() as out:
        show(Console(stdout=out.writer, environ={}), "gpu1", FOUND[:1] + FOUND[2:])
        assert out.text() == (
            "gpu1: works\n"
            "  ✓ host key      12 ms  ssh-ed25519 SHA256:x\\x1b[2J\n"
            "  – gpu                  not tried\n"
        )
    assert rows(LONG, None).split("\n")[0].count("looked there") == 20


def test_a_block_fits_its_terminal_and_the_fix_can_be_pasted() -> None:
    for columns in (80, 200):
        with terminal(columns) as out:
            show(Console(stdout=out.writer, environ={"NO_COLOR": "1"}), "gpu1", FOUND)
            lines = out.text().split("\n")
        assert lines[0] == "gpu1: does not work"
        fixes = [line for line in lines if line.startswith("    fix: ")]
        assert fixes == [f"    fix: {LONG.fix}"]
        assert max(width(line) for line in lines if line not in fixes) <= columns


def test_a_sign_has_its_colour_on_a_terminal_that_has_some() -> None:
    with terminal() as out:
        console = Console(stdout=out.writer, environ={"TERM": "xterm"})
        show(console, "gpu1", FOUND[:1])
        assert "\x1b[32m  ✓ \x1b[0mhost key" in out.text()
