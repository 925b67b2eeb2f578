"""Where a prompt comes from."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.prompt import checked, compose, from_stdin, waits
from rbee_ssh.errors import UsageInvalid


def never() -> str:
    raise AssertionError("standard input was read")


@pytest.mark.parametrize(
    ("words", "option", "prompt"),
    [
        (["Hi"], None, "Hi"),
        ([], "Hi", "Hi"),
        ([], "-", "-"),  # what --prompt says is a text, whatever it is
        ([], None, "from stdin"),
        (["-"], None, "from stdin"),
        (["Why?", "-"], None, "Why?\n\nfrom stdin"),
        (["-", "Why?"], None, "from stdin\n\nWhy?"),
        (["-"], "Why?", "Why?\n\nfrom stdin"),
        (["a\x00b\x1b[2J\n$(reboot)"], None, "a\x00b\x1b[2J\n$(reboot)"),
    ],
)
def test_prompts(words: list[str], option: str | None, prompt: str) -> None:
    assert compose(words, option, lambda: "from stdin", terminal=False) == prompt


@pytest.mark.parametrize(("words", "option"), [(["Hi"], None), ([], "Hi")])
def test_standard_input_is_not_read_beside_a_prompt(words: list[str], option: str | None) -> None:
    compose(words, option, never, terminal=False)


@pytest.mark.parametrize(
    ("words", "option", "complaint"),
    [
        (["Hi"], "Hi", "twice"),
        (["Hi", "-"], "Hi", "twice"),
        (["Why", "is", "it"], None, "3 arguments"),
        (["-", "-"], None, "once"),
        ([""], None, "empty"),
        ([], "", "empty"),
        (["a\udcff"], None, "not UTF-8, at character 2"),
    ],
)
def test_what_is_refused(words: list[str], option: str | None, complaint: str) -> None:
    with pytest.raises(UsageInvalid, match=complaint):
        compose(words, option, never, terminal=False)


def test_a_terminal_is_not_waited_for() -> None:
    with pytest.raises(UsageInvalid, match="no prompt"):
        compose([], None, never, terminal=True)
    assert compose(["-"], None, lambda: "typed", terminal=True) == "typed"


def test_nothing_on_standard_input_is_no_prompt() -> None:
    with pytest.raises(UsageInvalid, match="empty"):
        compose([], None, lambda: from_stdin(io.BytesIO(b"\n")), terminal=False)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\n", "a"),
        (b"a\r\n", "a"),
        (b"a\n\n", "a\n"),
        (b"a\r", "a\r"),
        (b"a", "a"),
        (b"", ""),
        (b"a\x00\x1b\nb", "a\x00\x1b\nb"),
        ("ä漢😀".encode(), "ä漢😀"),
    ],
)
def test_one_line_end_at_the_end_is_dropped_and_the_rest_is_as_it_came(data: bytes, text: str) -> None:
    assert from_stdin(io.BytesIO(data)) == text


def test_standard_input_that_is_not_utf8_is_refused_with_the_place() -> None:
    with pytest.raises(UsageInvalid, match="byte 0xff at offset 3") as caught:
        from_stdin(io.BytesIO(b"abc\xffdef"))
    assert caught.value.hint is not None and "iconv" in caught.value.hint


def test_standard_input_may_be_closed_or_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UsageInvalid, match="closed"):
        from_stdin(None)
    with (
        open(os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT), "rb") as unreadable,
        pytest.raises(UsageInvalid, match="cannot be read: Bad file descriptor"),
    ):
        from_stdin(unreadable)


@given(st.text())
def test_every_text_that_is_utf8_passes(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(UsageInvalid):
            checked(text, "the prompt")
    else:
        assert checked(text, "the prompt") is text


def test_only_a_pipe_that_holds_something_waits() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe, open(writer, "wb", buffering=0) as other_end:
        assert not waits(pipe)
        other_end.write(b"x")
        assert waits(pipe)
    with open(__file__, "rb") as file:
        assert not waits(file)
    assert not waits(None)
    assert not waits(pipe)  # closed
