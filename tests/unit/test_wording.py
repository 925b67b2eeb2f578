from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.wording import has_control, listed, nearest, quoted, without_secrets, without_url_secrets


@pytest.mark.parametrize("char", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x9b", "\u2028", "\udc80"])
def test_control_characters(char: str) -> None:
    assert has_control(f"a{char}b")
    assert char not in quoted(f"a{char}b")


@pytest.mark.parametrize("text", ["", "plain", "with space", "größe", "模型", "🐝", "$(x); '\""])
def test_ordinary_text_has_none(text: str) -> None:
    assert not has_control(text)
    assert json.loads(quoted(text)) == text


@given(st.text())
def test_quoted_is_one_short_printable_line(text: str) -> None:
    shown = quoted(text, 20)
    assert shown.isprintable()
    assert len(json.loads(shown)) <= 20


def test_quoted_marks_what_it_cut() -> None:
    assert quoted("x" * 100, 10) == '"' + "x" * 9 + '…"'


def test_listed_counts_what_it_leaves_out() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed((str(number) for number in range(25)), 2) == "0, 1 and 23 more"
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("word", "near"),
    [("prot", "port"), ("Identity-File", "identity_file"), ("hots", "host"), ("zzz", None), ("", None)],
)
def test_nearest(word: str, near: str | None) -> None:
    assert nearest(word, ["host", "port", "identity_file"]) == near


def test_nearest_gives_the_known_word_as_it_is_written() -> None:
    assert nearest("gpu-BOX", ["GPU_Box", "other"]) == "GPU_Box"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no URL: a@b?c=d#e", "no URL: a@b?c=d#e"),
        (
            "Looking in https://u:hunter2@a/simple, https://hunter2@b",
            "Looking in https://a/simple, https://b",
        ),
        ("(from https://a/x.whl?sig=hunter2#sha256=1) then x", "(from https://a/x.whl then x"),
        ("https://u:hunter2@a,https://u:hunter2@b", "https://a,https://b"),
        ("socks5h://u:hunt'er2\"@[::1]:1/", "socks5h://[::1]:1/"),
        ("proxy=http://u:hun@ter2@p:3128 'http://u:hunter2@q'", "proxy=http://p:3128 'http://q'"),
        ("HTTPS://U:hunter2@A/?hunter2", "HTTPS://A/"),
    ],
)
def test_a_url_shows_no_secret_wherever_it_stands(text: str, shown: str) -> None:
    assert without_url_secrets(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("./a@b?c#d", "./a@b?c#d"),
        ("https:/u:hunter2@h/a?hunter2", "https:/h/a"),
        ("HTTP:u:hunter2@h/a", "HTTP:h/a"),
        ("tiny, which is https://hunter2@h/a?hunter2", "tiny, which is https://h/a"),
        (f"https://h/a?hunter2#sha256={'a' * 64}", f"https://h/a#sha256={'a' * 64}"),
        (f"https://h/a#sha256={'a' * 63}", "https://h/a"),
    ],
)
def test_a_url_of_the_user_shows_no_secret(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@given(st.text(alphabet=st.characters(exclude_characters="/?#")), st.text())
def test_a_password_of_any_characters(password: str, query: str) -> None:
    assert without_secrets(f"https://u:{password}@host/p?{query}") == "https://host/p"


@pytest.mark.parametrize("line", ["a" * 65536, "a+" * 30000 + "://", "http://" * 9000, "a://b@" * 10000])
def test_a_long_line_takes_no_long_time(line: str) -> None:
    began = time.monotonic()
    without_url_secrets(line)
    assert time.monotonic() - began < 1
