"""Output by lines, behind a login shell's noise; the status of many; the script in every shell."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.fleet.run import LONGEST, Ended, Lines, _behind, worst

MARK = b"0123456789abcdef"


@given(st.lists(st.binary(max_size=12)))
def test_lines_whatever_the_pieces(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.close()
    whole = b"".join(pieces)
    assert found == whole.removesuffix(b"\n").split(b"\n") if whole else not found


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    lines = Lines()
    found = [line for _ in range(10) for line in lines.feed(b"x" * LONGEST)] + lines.close()
    assert max(map(len, found)) <= LONGEST
    assert b"".join(found) == b"x" * LONGEST * 10


@given(st.binary(max_size=30), st.binary(max_size=30), st.integers(1, 20))
def test_noise_before_the_mark_is_left_out(noise: bytes, said: bytes, size: int) -> None:
    sent = noise + b"\n" + MARK + b"\n" + said
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]

    async def read() -> bytes:
        return pieces.pop(0) if pieces else b""

    async def everything() -> bytes:
        whole = data = await _behind(read, MARK)
        while data:
            data = await read()
            whole += data
        return whole

    assert asyncio.run(everything()) == said


def test_the_status_of_all() -> None:
    down = Ended("b", 1.0, error=NodeUnreachable("no"))
    assert worst([]) == 0
    assert worst([Ended("a", 1.0, 0), Ended("c", 1.0, 0)]) == 0
    assert worst([Ended("a", 1.0, 0), down]) == 1
    assert worst([Ended("a", 1.0, 7), down, Ended("c", 1.0, 143)]) == 143
