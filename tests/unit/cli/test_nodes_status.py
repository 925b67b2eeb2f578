"""`rbee nodes status`: tables that fit, and what stands beside them."""

from __future__ import annotations

from rbee_ssh.cli.nodes_status import STATUS_COLUMNS, problems, status_row
from rbee_ssh.cli.text import table, width
from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.gpus import Gpu
from rbee_ssh.workers.status import NodeStatus

GIB = 2**30
UP = NodeStatus(
    "workstation",
    "up",
    12.3,
    Facts(
        os="Linux",
        arch="x86_64",
        cpus=16,
        ram_total_bytes=64 * GIB,
        ram_free_bytes=48 * GIB,
        disk_free_bytes=900 * GIB,
        gpus=(Gpu(0, "NVIDIA GeForce RTX 4090", "nvidia", "cuda", 24 * GIB, 20 * GIB),) * 2,
        engines=(EngineFound("llama-server", "/x", "b1"), EngineFound("xllamacpp", "/y", "1", "SIGILL")),
        problems=("processes end at the last logout",),
    ),
)
DOWN = NodeStatus("gpu2", "down", error=NodeUnreachable("refused, 3 times", hint="ssh -v gpu2"))


def test_a_status_has_a_cell_for_each_column() -> None:
    assert [len(status_row(one)) for one in (UP, DOWN, NodeStatus("x", "up", 1.0, Facts()))] == [10] * 3
    assert len(STATUS_COLUMNS) == 10


def test_a_status_fits_a_wide_terminal_whole_and_a_narrow_one_cut() -> None:
    rows = [status_row(UP), status_row(DOWN)]
    wide = table(STATUS_COLUMNS, rows, 200)
    assert "NVIDIA GeForce RTX 4090, NVIDIA GeForce RTX 4090  llama-server, xllamacpp ✗" in wide[1]
    narrow = table(STATUS_COLUMNS, rows, 80)
    assert max(map(width, narrow)) <= 80
    assert "LATENCY" in wide[0] and "LATENCY" not in narrow[0]
    for cell in ("workstation", "48.0/64.0 GiB", "900.0 GiB", "NVIDIA GeF…"):
        assert cell in narrow[1]


def test_what_stands_beside_the_table() -> None:
    assert problems(UP) == [
        "workstation: xllamacpp does not run: SIGILL",
        "workstation: processes end at the last logout",
    ]
    assert problems(DOWN) == ["gpu2: refused, 3 times\nhint: ssh -v gpu2"]
    assert problems(NodeStatus("x", "up", 1.0, Facts())) == []
