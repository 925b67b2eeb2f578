"""`rbee models show`: lines, tables and JSON out of what the nodes said."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from unit.models.gguf_files import published

from rbee_ssh.cli.models import show
from rbee_ssh.cli.models.show import as_json, context_row, fits, metadata, node_row
from rbee_ssh.engines import EngineFound
from rbee_ssh.engines.tuning import tuning
from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.models.memory import Estimate, Need, estimate
from rbee_ssh.models.reference import NodeFileRef
from rbee_ssh.node.choose import Choice
from rbee_ssh.workers.fit import RAM, VRAM, MemoryCheck, MemoryHolder
from rbee_ssh.workers.model_report import OnNode, Shown, contexts_of
from rbee_ssh.workers.prepare import Prepared
from rbee_ssh.workers.resolve import Model

MIB = 2**20
CUDA = Choice(EngineFound("llama-server", "/x", "1"), "cuda")


SENT = Model(NodeFileRef("/m"), "m")


@dataclass
class Asked:
    """As much of a Prepared as a table shows."""

    choice: Choice = CUDA
    model: Model = SENT
    has_model: bool | None = False


def shown(name: str, *nodes: OnNode) -> Shown:
    header, size = published(name)
    settings = tuning("llama-server", context=4096, parallel=1, backend="cpu")
    found = [(each, estimate(header, size, replace(settings, context=each))) for each in (4096, 8192)]
    return Shown("m", header, size, settings, tuple(found), frozenset({8192}), nodes)


NODE = OnNode(
    "gpu1",
    cast(Prepared, Asked()),
    Estimate(Need(10 * MIB), Need(20 * MIB)),
    (
        MemoryCheck(RAM, Need(10 * MIB), 100 * MIB, 100 * MIB, ()),
        MemoryCheck(VRAM, Need(20 * MIB), 15 * MIB, 15 * MIB, ()),
    ),
    fits=True,
    evicted=(MemoryHolder("abc", "m", "idle", 9 * MIB, True, True, 0.0),),
)


def test_what_the_model_is() -> None:
    lines = metadata(shown("gemma-3-27b"))
    assert lines[2].startswith("made of     gemma3, unknown quant, ")
    assert lines[3] == "context     131072 tokens"
    assert lines[4] == "layers      62, attention heads 32, of the cache 16"
    assert lines[5] == "window      1024 tokens"
    assert "128, of which 8 at a time" in metadata(shown("qwen3-30b-a3b"))[-1]


def test_a_line_for_each_context() -> None:
    seen = shown("llama-3-8b")
    small, row = (context_row(*each, seen.measured) for each in seen.contexts)
    assert (row[0], row[2]) == ("8192", "1.0 GiB")
    assert (small[-1], row[-1]) == ("estimate", "measured")


def test_the_columns_of_a_context_add_up() -> None:
    one = Need(10 * MIB, 20 * MIB, 30 * MIB, 40 * MIB, 50 * MIB, 60 * MIB)
    *parts, total = (float(cell.removesuffix(" MiB")) for cell in context_row(4096, Estimate(one))[1:-1])
    assert sum(parts) == total == 210


def test_the_contexts_are_usual_ones_up_to_the_models_own() -> None:
    assert contexts_of(published("llama-3-8b")[0], None, 4096) == [4096, 8192]
    assert contexts_of(published("qwen3-30b-a3b")[0], None, 0) == [4096, 8192, 16384, 32768, 40960]
    assert contexts_of(published("llama-3-8b")[0], None, 1024) == [1024, 4096, 8192]
    assert contexts_of(published("llama-3-8b")[0], 100, 4096) == [256]


def test_a_line_for_each_node() -> None:
    assert node_row(NODE) == [
        *("gpu1", "to be sent", "llama-server", "cuda"),
        *("10.0 MiB", "100.0 MiB", "20.0 MiB", "15.0 MiB", "yes, without 1 idle worker"),
    ]
    fetched = replace(SENT, remote=cast(Any, "hub"))
    there = Asked(has_model=True), Asked(model=fetched), Asked(has_model=None)
    words = [node_row(replace(NODE, prepared=cast(Prepared, asked)))[1] for asked in there]
    assert words == ["there", "to be fetched", "?"]
    assert fits(replace(NODE, fits=False)) == "no"
    assert fits(replace(NODE, fits=None)) == "?"
    assert node_row(OnNode("down", error=NodeUnreachable("no answer")))[0::8] == ["down", "?"]


def test_json_is_json_and_says_what_the_table_says() -> None:
    told: dict[str, Any] = json.loads(
        json.dumps(as_json(shown("llama-3-8b", NODE, OnNode("down", error=NodeUnreachable("no answer")))))
    )
    assert told["model"]["architecture"] == "llama"
    assert told["memory"][0]["ram_parts"]["KV cache"] == 512 * MIB
    gpu, down = told["nodes"]
    assert (gpu["fits"], gpu["device_need_bytes"], gpu["would_stop"]) == (True, 20 * MIB, ["abc"])
    assert down["error"]["code"] == "NODE_UNREACHABLE"


def test_the_command_is_light_to_name() -> None:
    assert "rbee_ssh.workers" not in Path(show.__file__).read_text().split("TYPE_CHECKING:")[0]
