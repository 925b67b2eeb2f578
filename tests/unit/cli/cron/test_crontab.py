"""Our one line in a crontab, and all the others."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.cron import crontab
from rbee_ssh.cli.cron.crontab import MARK
from rbee_ssh.durations import duration

LINE = crontab.line("*/5 * * * *", ["/usr/bin/rbee", "cleanup", "--quiet"], "/var/log/rbee.log")
OLDER = crontab.line("0 * * * *", ["/opt/old/rbee", "cleanup"], "/var/log/old.log")

USERS = "MAILTO=me@example.org\n# comment\n\n  5 4 * * *  backup --to '100\\%'\t# nightly\n@reboot x\n"

# Whatever a user may have there: odd line ends, other people's marks, ours commented out.
SOME_LINE = st.one_of(
    st.text(st.characters(exclude_characters="\n", exclude_categories=())),
    st.sampled_from(
        [
            f"# {OLDER}",
            f"#{MARK}",
            MARK,
            "* * * * * x # rbee-cleanup-not",
            "0 0 * * * rbee cleanup",
            "form\x0cfeed\x85\u2028",
            "\r",
            "",
        ]
    ),
).filter(lambda line: crontab.find(line) is None)
SOME_CRONTAB = st.lists(SOME_LINE).map(lambda lines: "".join(f"{line}\n" for line in lines))
SOME_WORD = st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8"))


def cron_hands_over(line: str, *, doubles: bool) -> str:
    """What a cron gives to its shell: the text after the five fields, up to a bare %.

    Args:
        doubles: this cron takes one backslash from \\\\ too, as Vixie's own does and Debian's does not.
    """
    command = line.split(" ", 5)[5]
    shown, escaped = "", False
    for character in command:
        if escaped:
            if character == "%" or (doubles and character == "\\"):
                shown = shown[:-1]
            shown, escaped = shown + character, False
        elif character == "%":
            break
        else:
            shown, escaped = shown + character, character == "\\"
    return shown


@given(SOME_CRONTAB)
def test_install_then_remove_gives_the_crontab_back(text: str) -> None:
    installed = crontab.install(text, LINE)
    assert installed == f"{text}{LINE}\n"
    assert crontab.find(installed) == LINE
    assert crontab.remove(installed) == text
    assert crontab.remove(text) == text


@given(SOME_CRONTAB)
def test_installing_twice_is_installing_once(text: str) -> None:
    once = crontab.install(text, LINE)
    assert crontab.install(once, LINE) == once


@given(SOME_CRONTAB, SOME_CRONTAB)
def test_an_older_line_is_replaced_where_it_stands(before: str, after: str) -> None:
    text = f"{before}{OLDER}\n{after}"
    assert crontab.install(text, LINE) == f"{before}{LINE}\n{after}"
    assert crontab.remove(text) == before + after


def test_several_lines_of_ours_become_one() -> None:
    text = f"{OLDER}\n{USERS}{OLDER}\n  {OLDER}\t\n"
    assert crontab.install(text, LINE) == f"{LINE}\n{USERS}"
    assert crontab.remove(text) == USERS


def test_a_missing_line_feed_at_the_end_is_put_there() -> None:
    assert crontab.install("0 0 * * * x", LINE) == f"0 0 * * * x\n{LINE}\n"
    assert crontab.install(OLDER, LINE) == f"{LINE}\n"
    assert crontab.remove("0 0 * * * x") == "0 0 * * * x"
    assert crontab.remove(f"0 0 * * * x\n{LINE}") == "0 0 * * * x\n"
    assert crontab.remove(LINE) == ""


def test_a_line_that_was_commented_out_is_the_users() -> None:
    text = f"# {OLDER}\n"
    assert crontab.find(text) is None
    assert crontab.install(text, LINE) == f"# {OLDER}\n{LINE}\n"
    assert crontab.remove(text) == text


@pytest.mark.parametrize("line", ["* * * * * x", f"# x {MARK}", f"* * * * * x\n* * * * * y {MARK}", MARK])
def test_what_could_not_be_found_again_is_not_installed(line: str) -> None:
    with pytest.raises(ValueError, match="not one line"):
        crontab.install("", line)


def test_the_line_as_it_is() -> None:
    argv = ["/opt/rbee", "--inventory", "/h/my inventory.toml", "cleanup", "--idle", "5m", "--quiet"]
    assert crontab.line("*/5 * * * *", argv, "/h/cron.log") == (
        "*/5 * * * * /opt/rbee --inventory '/h/my inventory.toml' cleanup --idle 5m --quiet"
        " >>/h/cron.log 2>&1 # rbee-cleanup"
    )


@given(st.lists(SOME_WORD, max_size=3), SOME_WORD, st.booleans())
def test_every_word_reaches_the_program_past_every_cron(words: list[str], name: str, doubles: bool) -> None:
    argv, log = ["/bin/x", *words], f"/log{name}"
    line = crontab.line("* * * * *", argv, log)
    assert "\n" not in line
    assert crontab.find(f"{line}\n") == line
    assert crontab.log_of(line) == log
    command, _, redirection = cron_hands_over(line, doubles=doubles).rpartition(" >>")
    assert shlex.split(command) == argv
    assert shlex.split(redirection.removesuffix(f" 2>&1 {MARK}")) == [log]


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_what_a_crontab_cannot_carry_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot carry"):
        crontab.line("* * * * *", ["/bin/x", bad], "/log")
    with pytest.raises(ValueError, match="cannot carry"):
        crontab.line("* * * * *", ["/bin/x"], f"/{bad}")


@pytest.mark.parametrize(("program", "log"), [("rbee", "/log"), ("/bin/rbee", "log"), ("./rbee", "/log")])
def test_paths_are_absolute(program: str, log: str) -> None:
    with pytest.raises(ValueError, match="not an absolute path"):
        crontab.line("* * * * *", [program], log)


@pytest.mark.parametrize(
    ("every", "fields"),
    [
        ("1m", "* * * * *"),
        ("5m", "*/5 * * * *"),
        ("30m", "*/30 * * * *"),
        ("60m", "0 * * * *"),
        ("2h", "0 */2 * * *"),
        ("12h", "0 */12 * * *"),
        ("1d", "0 0 * * *"),
    ],
)
def test_spans_that_cron_can_repeat(every: str, fields: str) -> None:
    assert crontab.schedule(duration(every)) == fields


@pytest.mark.parametrize(
    ("every", "near"),
    [
        ("0s", "is 1m"),
        ("30s", "is 1m"),
        ("90s", "are 1m and 2m"),
        ("7m", "are 6m and 10m"),
        ("45m", "are 30m and 1h"),
        ("5h", "are 4h and 6h"),
        ("2d", "is 1d"),
    ],
)
def test_other_spans_are_refused_with_the_nearest(every: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"every {every}; the nearest it can {near}$"):
        crontab.schedule(duration(every))


def test_every_schedule_repeats_evenly() -> None:
    accepted = []
    for every in range(60, 2 * 86400, 60):
        try:
            minute, hour, *rest = crontab.schedule(every).split()
        except ValueError:
            continue
        accepted.append(every)
        assert rest == ["*"] * 3
        moments = [
            1440 * day + 60 * h + m
            for day in (0, 1)
            for h in range(24)
            for m in range(60)
            if _matches(minute, m) and _matches(hour, h)
        ]
        assert {after - before for before, after in pairwise(moments)} == {every / 60}
    assert len(accepted) == 19


def _matches(field: str, value: int) -> bool:
    step = re.fullmatch(r"\*(?:/(\d+))?", field)
    return value % int(step[1] or 1) == 0 if step else value == int(field)


@given(st.integers(0, 10_000_000))
def test_a_span_is_read_as_it_was_spelled(milliseconds: int) -> None:
    assert duration(crontab.spelled(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


def test_what_a_rewritten_line_still_tells() -> None:
    assert crontab.schedule_of(f"*/7  1 2 3 4 rbee cleanup {MARK}") == "*/7 1 2 3 4"
    assert crontab.log_of(f"* * * * * rbee cleanup {MARK}") is None
    assert crontab.log_of(f"* * * * * rbee >>'open 2>&1 {MARK}") is None
    assert crontab.log_of(f"* * * * * rbee >>two words 2>&1 {MARK}") is None
