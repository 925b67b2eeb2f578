"""What is held against a node's memory: all of a model, by what it is started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from unit.models.gguf_files import published

from rbee_ssh.engines import EngineFound
from rbee_ssh.inventory import Node
from rbee_ssh.models.reference import HubRef, LocalFileRef
from rbee_ssh.models.remote import Remote, RemoteFile
from rbee_ssh.node.choose import Choice
from rbee_ssh.node.facts import Facts
from rbee_ssh.workers.prepare import Prepared
from rbee_ssh.workers.records import WorkerSnapshot
from rbee_ssh.workers.resolve import FilesOnNode, Model, ResolvedRequest
from rbee_ssh.workers.worker_memory import estimate_of, label_of, settings_of, weights_of

GIB = 2**30
HUB = HubRef("org", "repo")
PARTS = tuple(
    RemoteFile(f"m-0000{n}-of-00002.gguf", f"hf/org/repo/x/m-0000{n}", 4 * GIB, "0" * 64) for n in (1, 2)
)


REMOTE = Remote(HUB, "hf:org/repo", "c0ffee", PARTS)
NODE = Node("n", "n.example")
MODEL = Model(HUB, "hf:org/repo", remote=REMOTE)


def prepared(
    *,
    backend: str = "cpu",
    args: tuple[str, ...] = (),
    model: Model = MODEL,
    node: Node = NODE,
    device: str | None = None,
) -> Prepared:
    """A request for a model of the hub in two parts of 4 GiB each, on a node that has not got it."""
    return Prepared(
        request=ResolvedRequest(
            node=node,
            model=model,
            context=4096,
            parallel=1,
            engine="auto",
            backend=backend,
            device=device,
            args=args,
            lease=3600.0,
        ),
        connection=cast(Any, None),
        facts=Facts(),
        snapshot=cast(WorkerSnapshot, None),
        choice=Choice(EngineFound("llama-server", "/bin/llama-server", "1"), backend),
        model=model,
    )


@pytest.mark.parametrize(
    ("told", "ram", "device"),
    [
        (prepared(), 8 * GIB, 0),
        (prepared(backend="cuda"), 0, 8 * GIB),
        (prepared(backend="cuda", args=("--n-gpu-layers", "0")), 8 * GIB, 0),
    ],
)
def test_a_model_that_is_yet_to_come_takes_its_weights_at_least(
    told: Prepared, ram: int, device: int
) -> None:
    found = weights_of(told)
    assert found is not None
    assert (found.ram.total, found.device.total) == (ram, device)


@pytest.mark.parametrize(
    "told",
    [
        prepared(backend="auto"),
        prepared(backend="cuda", args=("--n-gpu-layers", "20")),
        prepared(backend="cuda", args=("--override-tensor", "exps=CPU")),
        prepared(model=Model(HUB, "hf:org/repo")),
    ],
    ids=["the engine decides", "in part on a GPU", "placed by the user", "of a size nobody tells"],
)
def test_where_the_size_tells_nothing_nothing_is_refused(told: Prepared) -> None:
    assert weights_of(told) is None


def test_all_parts_of_a_split_model_count() -> None:
    header, _ = published("llama-3-8b")
    local = prepared(
        model=Model(LocalFileRef(Path("m.gguf")), "./m.gguf", ("/m.gguf", 4 * GIB, 1), local_bytes=8 * GIB)
    )
    there = prepared(model=replace(MODEL, files=FilesOnNode("/m/m-00001", 4 * GIB, 1, 8 * GIB)))
    for told in (local, there):
        assert estimate_of(told, header, settings_of(told)).ram.weights == 8 * GIB


def test_a_measurement_is_kept_with_all_that_it_was_made_with() -> None:
    told = [
        prepared(),
        prepared(args=("--no-mmap",)),
        prepared(device="0"),
        prepared(node=Node("n", "n.example", env=(("GGML_SECRET", "hunter2"),))),
    ]
    labels = [label_of(one, settings_of(one)) for one in told]
    assert len(set(labels)) == len(labels)
    assert labels[0] == "llama-server cpu 4096x1"
    assert "hunter2" not in "".join(labels)
