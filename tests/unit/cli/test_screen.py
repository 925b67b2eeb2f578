"""A whole terminal, drawn over and over. What a node sent does not steer it."""

from __future__ import annotations

from rbee_ssh.cli.screen import Screen


def screen(written: list[str], columns: int = 20, rows: int = 3) -> Screen:
    return Screen(
        written.append, lambda: (columns, rows), lambda text, tone: f"<{tone}>{text}" if tone else text
    )


def test_it_comes_and_leaves_nothing_behind() -> None:
    written: list[str] = []
    with screen(written) as drawn:
        drawn.draw([("one", ""), ("two", "bad")])
    assert written == [
        "\x1b[?1049h\x1b[?25l",
        "\x1b[H\x1b[Kone\r\n\x1b[K<bad>two\r\n\x1b[J",
        "\x1b[?25h\x1b[?1049l",
    ]


def test_it_is_left_as_it_was_whatever_happens() -> None:
    written: list[str] = []
    try:
        with screen(written):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert written[-1] == "\x1b[?25h\x1b[?1049l"


def test_lines_are_cut_and_those_that_are_too_many_left_out() -> None:
    written: list[str] = []
    screen(written, columns=5, rows=2).draw([("1234567", ""), ("ab\x1b[2J", ""), ("third", "")])
    assert written == ["\x1b[H\x1b[K1234…\r\n\x1b[Kab\\x…"]
