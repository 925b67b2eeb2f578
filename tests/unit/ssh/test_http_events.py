"""Server-sent events, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import ResponseInvalid
from rbee_ssh.ssh.http import MAX_EVENT_BYTES, EventParser, ServerEvent, one_line


def parse(*chunks: bytes) -> list[ServerEvent]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


def datas(*chunks: bytes) -> list[str]:
    return [event.data for event in parse(*chunks)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_kind_of_line_end(end: bytes) -> None:
    assert datas(end.join([b"data: one", b"", b"data: two", b"", b""])) == ["one", "two"]


def test_a_carriage_return_and_its_line_feed_in_two_chunks_are_one_line_end() -> None:
    # Were they two, the event would end after its first line.
    assert datas(b"data: one\r", b"\ndata: two\r", b"\n\r", b"\n") == ["one\ntwo"]


def test_the_blank_after_the_colon_is_optional_and_only_one_is_dropped() -> None:
    assert datas(b"data:a\n\ndata: b\n\ndata:  c\n\ndata\n\n") == ["a", "b", " c", ""]


def test_pings_ids_and_retries_are_not_events() -> None:
    assert parse(b": ping - 2026-01-01\n\nid: 7\nretry: 10\n\ndata: x\n\n:\n\n") == [ServerEvent("x")]


def test_an_event_may_have_a_name() -> None:
    assert parse(b"event: error\ndata: x\n\ndata: y\n\n") == [ServerEvent("x", "error"), ServerEvent("y")]


def test_an_error_line_of_llama_server_is_an_event_named_error() -> None:
    assert parse(b'error: {"message":"no"}\n\n') == [ServerEvent('{"message":"no"}', "error")]


@pytest.mark.parametrize("tail", [b"", b"\n"])
def test_the_last_event_needs_no_final_line_end(tail: bytes) -> None:
    assert datas(b"data: a\n\ndata: b" + tail) == ["a", "b"]


def test_an_event_is_out_as_soon_as_its_blank_line_is_in() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [ServerEvent("a")]


def test_a_byte_order_mark_is_not_part_of_the_first_field() -> None:
    assert datas(b"\xef\xbb\xbfdata: a\n\n") == ["a"]


def test_bytes_that_are_not_utf8_cost_their_character_only() -> None:
    assert datas(b"data: a\xffb\n\n") == ["a\ufffdb"]


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html>\n<html>", b'{"choices":[]}\n', b"HTTP/1.1 200 OK\r\n\r\n", b"\x00\x01\x02\n"]
)
def test_what_is_no_event_stream_is_refused_and_shown(body: bytes) -> None:
    with pytest.raises(ResponseInvalid, match="no event stream"):
        parse(body)


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    parser = EventParser()
    parser.feed(b"data: ")
    with pytest.raises(ResponseInvalid, match=str(MAX_EVENT_BYTES)):
        for _ in range(3 * MAX_EVENT_BYTES // 65536):
            parser.feed(b"x" * 65536)


def test_an_event_of_endless_lines_is_refused_too() -> None:
    parser = EventParser()
    with pytest.raises(ResponseInvalid, match=str(MAX_EVENT_BYTES)):
        for _ in range(3 * MAX_EVENT_BYTES // 65536):
            parser.feed(b"data: " + b"x" * 65536 + b"\n")


def test_a_large_event_within_the_limit_is_whole() -> None:
    text = "ä" * (MAX_EVENT_BYTES // 4)
    assert datas(f"data: {text}\n\n".encode()) == [text]


lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)


@given(st.data(), st.lists(st.lists(lines, min_size=1, max_size=3), max_size=6))
def test_the_events_are_the_same_wherever_the_stream_is_cut(
    data: st.DataObject, events: list[list[str]]
) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    blank = data.draw(st.sampled_from(["", " "]))
    stream = "".join(
        data.draw(st.sampled_from(["", f": ping{end}"]))
        # A line that starts with a blank loses it when none was put before it.
        + "".join(f"data:{blank if blank else ' ' * line.startswith(' ')}{line}{end}" for line in event)
        + end
        for event in events
    ).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert datas(*chunks) == ["\n".join(event) for event in events]


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_give_events_or_a_refusal(chunks: list[bytes]) -> None:
    try:
        events = parse(*chunks)
    except ResponseInvalid as error:
        assert "\n" not in error.message
    else:
        assert all("\r" not in event.data for event in events)


@given(st.text())
def test_one_line_is_one_line_of_bounded_length(text: str) -> None:
    shown = one_line(text)
    assert len(shown) <= 200
    assert len(shown.splitlines()) <= 1


def test_one_line_says_when_it_cut() -> None:
    assert one_line("a \n b") == "a b"
    assert one_line("x" * 500).endswith("…")
