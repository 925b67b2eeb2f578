"""A lying node, for one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nodes.liar import Liar
from nodes.lies import TIMEOUTS

from nodekit import Control


@pytest.fixture
def liar(control: Control) -> Iterator[Liar]:
    with Liar() as liar:
        liar.known_to(control, text=TIMEOUTS)
        yield liar
