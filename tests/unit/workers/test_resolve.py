"""What a request means, and which two requests mean the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import BackendInvalid, ModelNotFound, UsageInvalid
from rbee_ssh.inventory import Inventory, ModelPreset, Node
from rbee_ssh.workers.resolve import DEFAULT_CONTEXT, FilesOnNode, ResolvedRequest, match, resolve
from rbee_ssh.workers.types import WorkerRequest

NODE = Node("a", "10.0.0.1", user="me")
PRESET = ModelPreset("tiny", "file:///m/tiny.gguf", context=8192, parallel=2, args=("--mlock",))
INVENTORY = Inventory(nodes={"a": NODE}, models={"tiny": PRESET})
ENGINE = EngineFound("xllamacpp", "/usr/bin/python3", "1.0")


def of(request: WorkerRequest, node: Node = NODE) -> ResolvedRequest:
    return resolve(request, INVENTORY, node)


def test_options_stand_over_the_preset_and_the_preset_over_the_default() -> None:
    plain = of(WorkerRequest("file:///m/tiny.gguf"))
    assert (plain.context, plain.parallel, plain.args) == (DEFAULT_CONTEXT, 1, ())
    preset = of(WorkerRequest("tiny"))
    assert (preset.context, preset.parallel, preset.args, preset.model.name) == (
        8192,
        2,
        ("--mlock",),
        "tiny",
    )
    assert of(WorkerRequest("tiny", context=512)).context == 512
    assert [of(WorkerRequest("tiny", context=n)).context for n in (1, 256, 257)] == [256, 256, 512]


def test_options_stand_over_the_node() -> None:
    node = replace(NODE, engine="llama-server", backend="cuda", device="1")
    assert of(WorkerRequest("tiny"), node).backend == "cuda"
    assert of(WorkerRequest("tiny", backend="cpu", device="0"), node).device == "0"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "file:///m/other.gguf"},
        {"context": 512},
        {"parallel": 4},
        {"engine": "llama-server"},
        {"backend": "cpu"},
        {"device": "1"},
    ],
)
def test_a_request_that_means_something_else_has_another_fingerprint(change: dict[str, object]) -> None:
    request = WorkerRequest("file:///m/tiny.gguf")
    assert of(request).fingerprint == of(request).fingerprint
    assert of(request).fingerprint != of(replace(request, **change)).fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"host": "10.0.0.2"}, {"user": "you"}, {"env": (("A", "1"),)}, {"listen": "tcp"}, {"name": "b"}],
)
def test_another_node_has_another_fingerprint(change: dict[str, object]) -> None:
    request = WorkerRequest("file:///m/tiny.gguf")
    assert of(request).fingerprint != of(request, replace(NODE, **change)).fingerprint  # type: ignore[arg-type]


def test_the_lease_makes_no_other_worker() -> None:
    request = WorkerRequest("tiny")
    assert of(request).fingerprint == of(request, replace(NODE, lease=5.0)).fingerprint


def test_a_file_that_changed_is_another_worker() -> None:
    wanted, files = of(WorkerRequest("tiny")), FilesOnNode("/m/tiny.gguf", 100, 1, 100)
    first = match(wanted, ENGINE, "cpu", files)
    assert first == match(wanted, ENGINE, "cpu", replace(files, total=200))
    assert first != match(wanted, ENGINE, "cpu", replace(files, mtime=2))
    assert first != match(wanted, ENGINE, "cpu", replace(files, size=101))
    assert first != match(wanted, replace(ENGINE, version="1.1"), "cpu", files)
    assert first != match(wanted, ENGINE, "cuda", files)


def test_a_local_file_is_known_by_its_stamp(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    before = of(WorkerRequest(str(model)))
    model.write_bytes(b"GGUF and more")
    assert before.fingerprint != of(WorkerRequest(str(model))).fingerprint


def test_what_cannot_be_meant_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="No such file"):
        of(WorkerRequest(str(tmp_path / "none.gguf")))
    with pytest.raises(BackendInvalid):
        of(WorkerRequest("tiny", backend="abacus"))
    with pytest.raises(UsageInvalid):
        of(WorkerRequest(""))
