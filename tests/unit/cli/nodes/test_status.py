"""`rbee nodes status`: rows that fit, whatever a node says, and what stands beside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.cli.nodes.status_rows import STATUS_COLUMNS, layout, line, picture, problems, row, why, workers
from rbee_ssh.cli.text import width
from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import AuthFailed, JumpFailed, NodeUnreachable, RbeeError
from rbee_ssh.fleet.status import NodeStatus
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.workers.types import Worker

GIB = 2**30


def worker(state: str, model: str = "file:///models/tiny.gguf", idle: int | None = None) -> Worker:
    return Worker("a1", "n", model, "xllamacpp", state, "", 1, 0.0, idle, 3600, "/log")


UP = NodeStatus(
    "workstation",
    "up",
    12.3,
    Facts(
        os="Linux",
        arch="x86_64",
        cpus=16,
        load=3.14,
        ram_total_bytes=64 * GIB,
        ram_free_bytes=48 * GIB,
        disk_free_bytes=900 * GIB,
        gpus=(Gpu(0, "NVIDIA GeForce RTX 4090", "nvidia", "cuda", 24 * GIB, 20 * GIB),) * 2,
        engines=(EngineFound("llama-server", "/x", "b1"), EngineFound("xllamacpp", "/y", "1", "SIGILL")),
        problems=("processes end at the last logout",),
    ),
    (worker("idle", idle=310), worker("busy", "file:///m/phi-3.gguf")),
)
DOWN = NodeStatus(
    "gpu2",
    "down",
    error=NodeUnreachable(
        "node 'gpu2' cannot be reached", hint="ssh -v gpu2", details={"attempts": ["connection refused"]}
    ),
)
ASKING = NodeStatus("slow", "asking")
NAMES = ["workstation", "gpu2", "slow"]


def test_a_status_has_a_cell_for_each_column() -> None:
    assert {len(row(one)) for one in (UP, NodeStatus("x", "up", 1.0, Facts()), NodeStatus("x", "up"))} == {
        len(STATUS_COLUMNS)
    }


def test_at_200_columns_everything_is_there() -> None:
    place = layout(NAMES, 200)
    assert place.titles == (
        "NAME         STATE  LATENCY  SYSTEM             LOAD    RAM FREE   DISK FREE    GPU FREE  "
        "GPUS                        ENGINES                    WORKERS"
    )
    assert line(place, UP) == (
        "workstation  up       12 ms  Linux x86_64     3.1/16  48.0/64.0G   900.0 GiB  40.0/48.0G  "
        "2× NVIDIA GeForce RTX 4090  llama-server, xllamacpp ✗  2: busy phi-3, idle 5m10s tiny",
        "",
    )


def test_at_80_columns_what_matters_is_there() -> None:
    place = layout(NAMES, 80)
    assert place.titles == "NAME         STATE      LOAD    RAM FREE    GPU FREE  ENGINES       WORKERS"
    assert line(place, UP)[0] == (
        "workstation  up       3.1/16  48.0/64.0G  40.0/48.0G  llama-serve…  2: busy phi…"
    )
    assert line(place, DOWN) == ("gpu2         down   connection refused", "bad")
    assert line(place, ASKING) == ("slow         …", "")


def test_in_a_pipe_nothing_is_cut() -> None:
    place = layout(NAMES, None)
    assert "2× NVIDIA GeForce RTX 4090  llama-server, xllamacpp ✗  2: busy phi-3, " in line(place, UP)[0]
    reason = "it said: " + "no " * 100
    assert line(place, NodeStatus("gpu2", "down", error=NodeUnreachable(reason)))[0].endswith(reason.strip())


@given(
    st.integers(min_value=40, max_value=250),
    st.lists(st.text(max_size=70), min_size=1, max_size=4),
    st.text(max_size=300),
)
def test_no_line_is_longer_than_the_terminal_or_steers_it(columns: int, names: list[str], text: str) -> None:
    place = layout(names, columns)
    engines = (EngineFound(text, "/x", "1", text),)
    for name in names:
        facts = Facts(os=text, arch=text, gpus=(Gpu(0, text, "v", "cuda", 2**60, 1),), engines=engines)
        for one in (
            NodeStatus(name, "up", 99999.0, facts, (worker(text, text),)),
            NodeStatus(name, "down", error=NodeUnreachable(text)),
            NodeStatus(name, "asking"),
        ):
            shown = line(place, one)[0]
            assert width(shown) <= columns
            assert "\x1b" not in shown
            assert "\n" not in shown


@pytest.mark.parametrize(
    ("many", "told"),
    [
        ([], ""),
        ([worker("idle", idle=42)], "idle 42s tiny"),
        ([worker("loading", "hf:org/Phi-4:Q4_K_M")], "loading Phi-4:Q4_K_M"),
        ([worker("failed", ""), worker("busy", "")], "2: busy, failed"),
    ],
)
def test_workers(many: list[Worker], told: str) -> None:
    assert workers(many) == told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            NodeUnreachable("long", details={"attempts": ["no route", "no answer in time"]}),
            "no answer in time",
        ),
        (AuthFailed("long", details={"tried": []}), "no key was accepted"),
        (
            JumpFailed("long", details={"hop": "gate", "cause": "AUTH_FAILED"}),
            "jump host gate: no key was accepted",
        ),
        (NodeUnreachable("first\nsecond"), "first"),
    ],
)
def test_why_a_node_is_down(error: RbeeError, told: str) -> None:
    assert why(error) == told


def test_what_stands_beside_the_table() -> None:
    assert problems(UP) == [
        "workstation: xllamacpp does not run: SIGILL",
        "workstation: processes end at the last logout",
    ]
    assert problems(DOWN) == ["node 'gpu2' cannot be reached\nhint: ssh -v gpu2"]
    assert problems(NodeStatus("x", "up", 1.0, Facts())) == []


def test_a_picture_of_all_nodes() -> None:
    lines = picture(layout(NAMES, 80), [UP, DOWN, ASKING], "12:00:00")
    assert [text[:24] for text, _ in lines] == [
        "12:00:00  1 up, 1 down, ",
        "NAME         STATE      ",
        "workstation  up       3.",
        "gpu2         down   conn",
        "slow         …",
        "",
        "workstation: xllamacpp d",
        "workstation: processes e",
    ]


def test_a_picture_that_is_too_tall_says_what_is_missing() -> None:
    many = [UP] * 10 + [DOWN] * 10
    lines = picture(layout(NAMES, 80), many, "12:00:00", 8)
    assert len(lines) == 8
    assert lines[-1] == ("… and 15 more, 10 of them down", "bad")
    assert len(picture(layout(NAMES, 80), many, "12:00:00", 22)) == 22
