"""The commands of `models` that list and remove: words for people, shapes for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.cli.models import shapes
from rbee_ssh.cli.models.list import ago, count, row
from rbee_ssh.cli.models.pull import to_nodes
from rbee_ssh.cli.models.verify import again
from rbee_ssh.errors import NodeUnreachable
from rbee_ssh.library.push import Pushed
from rbee_ssh.library.stores import Removal
from rbee_ssh.models.node_store import NodeStore, StoredFile, StoredModel
from rbee_ssh.models.store import Note

SHA = "0123456789ab" + "0" * 52
PLACE = "local/0123456789ab/tiny-Q4_0.gguf"


def a_model(**note: object) -> StoredModel:
    told = Note(**{"source": "/m/tiny-Q4_0.gguf", "sha256": SHA, **note})  # type: ignore[arg-type]
    return StoredModel("gpu1", "/home/u/models", (StoredFile(PLACE, 3 << 20, 100, told),))


def test_a_row_says_what_is_known_and_nothing_else() -> None:
    full = a_model(parameters=134_515_008, context=8192, verified=900, last_used=400)
    head = ["0123456789ab", "gpu1", "tiny-Q4_0.gguf", "Q4_0"]
    assert row(full, 1000.0) == [*head, "135M", "8192", "3.0 MiB", "1m40s", "10m00s"]
    assert row(a_model(), 1000.0) == [*head, "", "", "3.0 MiB", "never", "15m00s"]
    assert row(a_model(size=5), 1000.0)[-2] == "cut"
    assert row(a_model(verified=0), 1000.0)[-2] == "differs"


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("rbee models pull hf:o/r:Q4_0", "rbee models pull hf:o/r:Q4_0 --node a --tag 'x y'"),
        ("rbee models pull a   # or b", "rbee models pull a --node a --tag 'x y'   # or b"),
        ("rbee models pull a --node c", "rbee models pull a --node c"),
        ("see a page", "see a page"),
    ],
)
def test_another_model_is_for_the_same_nodes(hint: str, told: str) -> None:
    assert to_nodes(hint, ("a",), ("x y",)) == told


@pytest.mark.parametrize(
    ("parameters", "told"),
    [(7, "7"), (999_999, "1000K"), (1_500_000, "1.5M"), (8_030_261_248, "8.0B"), (70_553_706_496, "71B")],
)
def test_parameters_are_told_as_names_tell_them(parameters: int, told: str) -> None:
    assert count(parameters) == told


def test_a_clock_that_is_ahead_is_no_negative_time() -> None:
    assert ago(2000, 1000.0) == "0s"


@pytest.mark.parametrize(
    ("source", "way"),
    [
        ("/m/a b.gguf", " && rbee models push '/m/a b.gguf' --node gpu1"),
        ("hf:org/repo/tiny.gguf", " && rbee models pull hf:org/repo/tiny.gguf --node gpu1"),
        ("https://h/$x.gguf", " && rbee models pull 'https://h/$x.gguf' --node gpu1"),
        ("", ""),
    ],
)
def test_what_is_wrong_comes_again_from_where_it_came(source: str, way: str) -> None:
    assert again(a_model(source=source)) == "rbee models rm 0123456789ab --node gpu1" + way


WRONG = """
pull | pull hf:o/r | pull hf:o/r --via x --node a | pull hf:o/r --via here --detach --node a
pull ./x --node a | pull hf:bad --node a | pull nonsense --node a | pull hf:o/r --node c | pull hf:o/r --tag t
pull org/repo --node a
push | push x.gguf | push hf:o/r:Q8_0 --node a | push file:///x.gguf --node a | push https://h/x.gguf --node a
copy | copy x | copy x --to c | copy x --from c --to a
rm | rm x --node c | prune | prune --older-than | prune --older-than soon | prune --older-than 30
verify x y | list x | list --nod a
show | show nonsense | show x.gguf --context 0 | show x.gguf --parallel a
show ./x.gguf --engine x | show ./x.gguf --backend x | show ./x.gguf --device x
"""


def test_each_wrong_usage_says_what_to_type(rbee: Callable[..., Any], tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text('[nodes.a]\nhost = "192.0.2.1"\n[nodes.b]\nhost = "192.0.2.2"\n')
    wrong = [words.split() for line in WRONG.strip().splitlines() for words in line.split(" | ")]
    ended = [rbee("--json", "--inventory", str(inventory), "models", *words) for words in wrong]
    assert {one.status for one in ended} == {2}
    hints = [json.loads(one.stdout)["error"]["hint"] for one in ended]
    for words, hint in zip(wrong, hints, strict=True):
        assert re.match(r"rbee \S|--(engine|backend) auto|write one of these", hint or ""), (words, hint)
        assert hint != "rbee --help", words
    ours = f"rbee --inventory {inventory}"
    assert f"{ours} models copy file:///x.gguf --to a" in hints
    assert f"{ours} models pull hf:o/r:Q8_0 --node a" in hints
    assert f"{ours} models push x --node a" in hints, "it need not be there"
    assert f"{ours} models pull hf:org/repo --node a" in hints


def test_the_shapes_are_json_and_name_the_nodes_that_are_down() -> None:
    down = {"gpu2": NodeUnreachable("no route")}
    model = a_model(last_used=400)
    said = shapes.listed([NodeStore("gpu1", "/s", (model,), (StoredFile("x.part", 5, 1),))], down)
    assert said["models"][0]["path"] == f"/home/u/models/{PLACE}"
    assert said["partial"] == [{"node": "gpu1", "path": "/s/x.part", "size": 5}]
    assert said["unreachable"][0]["error"]["code"] == "NODE_UNREACHABLE"
    done = Removal(removed=(model,), mapped=((model, ("a1b2",)),), parts=(("gpu1", "x", 5),))
    assert shapes.removed(done)["in_use"][0]["users"] == ["a1b2"]
    pushed = shapes.pushed([Pushed("gpu1", "/p", SHA, 5, 6)], down)
    assert pushed["models"] == [{"node": "gpu1", "path": "/p", "sha256": SHA, "size": 5}]
    for shape in (said, shapes.removed(done), pushed):
        json.dumps(shape)
