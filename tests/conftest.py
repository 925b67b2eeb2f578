"""What every test may ask for: the real engines, a real model, and a lab of real SSH nodes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodekit import Control, LabNode, NodeLab, fuzz
from nodekit.engines import Engines, visible_directories
from rbee_ssh.cli import entry  # noqa: F401 # it leaves Ctrl+C to the system, once: below it comes back

fuzz.profile()


# What a shell starts in the background, or under nohup, ignores Ctrl+C or a hangup; and so would every
# program that is tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def engines() -> Engines:
    return Engines(dict(os.environ))


@pytest.fixture(scope="session")
def model_path(engines: Engines) -> Path:
    """SmolLM2-135M-Instruct, readable by every user."""
    return engines.model


@pytest.fixture(scope="session")
def lab() -> Iterator[NodeLab]:
    """One network for the whole session; nodes and control machines are added as tests need them."""
    with NodeLab(visible=visible_directories(), one_core=True) as lab:
        yield lab


@pytest.fixture
def make_node(lab: NodeLab) -> Iterator[Callable[..., LabNode]]:
    """`lab.node`, for nodes that end with the test. The name may be left out."""
    made: list[LabNode] = []

    def make(name: str | None = None, **options: Any) -> LabNode:
        made.append(lab.node(name or f"n{next(lab.names)}", **options))
        return made[-1]

    yield make
    for node in reversed(made):
        lab.remove(node)


@pytest.fixture
def node(make_node: Callable[..., LabNode]) -> LabNode:
    """A fresh node with plain sh, for one test."""
    return make_node()


@pytest.fixture
def control(lab: NodeLab) -> Iterator[Control]:
    """A fresh control machine, for one test."""
    control = lab.control(f"c{next(lab.names)}")
    yield control
    lab.remove(control)
