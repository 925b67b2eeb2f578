"""Fingerprints and matches stay what they were: workers and registries of earlier versions go by them.

The digests were made by the code of the version before `ResolvedRequest`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rbee_ssh.engines import EngineFound
from rbee_ssh.inventory import Inventory, ModelPreset, Node
from rbee_ssh.models.reference import LocalFileRef
from rbee_ssh.workers.resolve import FilesOnNode, Model, ResolvedRequest, match, resolve
from rbee_ssh.workers.types import WorkerRequest

NODES = (
    Node("a", "10.0.0.1", user="me"),
    Node(
        *("gpu1", "box.example"),
        port=2222,
        user="me",
        jump=("hop", "me@other:22"),
        engine="llama-server",
        engine_path="/opt/llama/bin/llama-server",
        python="/usr/bin/python3",
        backend="cuda",
        device="0,1",
        models_dir="/srv/models",
        env=(("A", "1"), ("GGML_X", "é \"'")),
        listen="tcp",
        lease=60.0,
    ),
    Node("localhost", "localhost"),
)
PRESETS = (
    ModelPreset("tiny", "file:///m/tiny.gguf", context=8192, parallel=2, args=("--mlock", "--threads", "4")),
    ModelPreset("chat", "hf:org/repo:Q4_K_M", args=("n_batch=64",)),
)
INVENTORY = Inventory(
    nodes={node.name: node for node in NODES}, models={preset.name: preset for preset in PRESETS}
)
REQUESTS = (
    WorkerRequest("file:///m/tiny.gguf"),
    WorkerRequest("tiny"),
    WorkerRequest("chat", context=300),
    WorkerRequest("hf:org/repo/dir/m-00001-of-00002.gguf@main", parallel=3),
    WorkerRequest("https://e.org/m.gguf?sig=1#sha256=" + "ab" * 32),
    WorkerRequest("tiny", engine="llama-cpp-python", backend="vulkan", device="1", context=512),
)
LOCAL = Model(LocalFileRef(Path("m.gguf")), "./m.gguf", ("/home/me/m.gguf", 1000, 1700000000123456789), 3000)
ENGINES = (
    (EngineFound("llama-server", "/opt/llama/bin/llama-server", "b4711"), "cuda"),
    (EngineFound("xllamacpp", "/usr/bin/python3", "0.2.1"), "cpu"),
    (EngineFound("llama-cpp-python", "/v/bin/python", "0.3.36"), "cuda"),
)
FILES = FilesOnNode("/srv/models/é m.gguf", 1000, 1700000000, 3000)
# Of each node the requests, and a file of the control machine as the last: the fingerprint, and below it a
# match for each engine.
DIGESTS = """
5a7de740070511ba357b073b4bc2211d
  56ad8a2c80971620b6f6405a37fa9314 2968ebaedb5f88f590fa8a0b794ce0c3 b280e20f7fb703d95ce4378b6eb5f016
27de5775fa0fe4580255382b2801713b
  664f07cf850782b3a4c0d62bc548ed7e 427bd90652cae747ac0f84db015c924a 5b90c9f444e22f2b5d0bf14706088e86
d436cca9765186d789096af5a9f0cd90
  20aa929a29774796bd4dcd4f1dac60a3 80221e44f2ad55c38bf05e8678681f62 1347c095cb40a7b33c4a4a6edb74ed57
77df9c077135d88276e055c33ab004f9
  6423d9431d6dbad90e95ce84389daa06 19d7c3165a3555a3bca6494dbda6e600 4536c1779cf8c9c62562d2abdcbe26df
77151f63ed74c7b912cd0587236a48e6
  56ad8a2c80971620b6f6405a37fa9314 2968ebaedb5f88f590fa8a0b794ce0c3 b280e20f7fb703d95ce4378b6eb5f016
a2db44dcbf2176d1a1e01d1dde9dd45f
  50e6766715c665d2893cc2d37333187b 182e0b60c6d9984042f32d9d347a33fa e1a3a44db7791da08c259ba4f2de5b3c
3c3a1f7608b3bcb4693ef3f4f17ca633
  56ad8a2c80971620b6f6405a37fa9314 2968ebaedb5f88f590fa8a0b794ce0c3 b280e20f7fb703d95ce4378b6eb5f016
ab0178eba7a65098ecc62cb5b09bcc33
  f9ee7a16d55276419d7fdb428a5a38d6 eb6dd554917fded8657fc6e6fa806bef 85981393bb59ac3bc608e2faee9651a3
43f232a91de3478b3c049f9c4520297f
  5b4a1e224c2f24f0dbbeda1a4a7676e4 a8b911abc17afb379021b30e2e677b2f 0d3a72ecf6804d65513f090c73fa0820
b2fb63eec17ac37f8a80d28653e7fb8a
  88e8f838f55ef4547150de1614560aa8 c5c66f5fb99466f30ad2d51ade5dfd75 e42163d39e3f87d70c3c60d96d909b88
24f02324e1f65983826fbab29d546cc4
  853106902d98f1a82c022b2e51ae5320 3d7f3e5b76a22a324b28d1a8d8d32f98 ee919fc1c455023f6a115b134b7b7628
9f9876ce63c0bb31600d69c1c30b251b
  f9ee7a16d55276419d7fdb428a5a38d6 eb6dd554917fded8657fc6e6fa806bef 85981393bb59ac3bc608e2faee9651a3
31df18a0638d74ddcdfd4cee617c2d3f
  8066e93959571385114f970e4ad183ef d531c8687966b16f4911b407bf606f1d 04bd11eb779ecfe753e9a8dd47ea9c77
9f4179ccf3094257344eb50605c8e866
  f9ee7a16d55276419d7fdb428a5a38d6 eb6dd554917fded8657fc6e6fa806bef 85981393bb59ac3bc608e2faee9651a3
800501e5ffa193e030c3d7e017aeaed0
  56ad8a2c80971620b6f6405a37fa9314 2968ebaedb5f88f590fa8a0b794ce0c3 b280e20f7fb703d95ce4378b6eb5f016
d4d06d377f9aa014f7a0356b12fca957
  664f07cf850782b3a4c0d62bc548ed7e 427bd90652cae747ac0f84db015c924a 5b90c9f444e22f2b5d0bf14706088e86
a806232f32d0f2032076ed7810762737
  20aa929a29774796bd4dcd4f1dac60a3 80221e44f2ad55c38bf05e8678681f62 1347c095cb40a7b33c4a4a6edb74ed57
6ffa6aa5e327a2b7c12ace5c0ff84a95
  6423d9431d6dbad90e95ce84389daa06 19d7c3165a3555a3bca6494dbda6e600 4536c1779cf8c9c62562d2abdcbe26df
c7a4a5947b6e13b009181699281e746b
  56ad8a2c80971620b6f6405a37fa9314 2968ebaedb5f88f590fa8a0b794ce0c3 b280e20f7fb703d95ce4378b6eb5f016
a4413607469c9624dca1fe8e5ce5f7c7
  50e6766715c665d2893cc2d37333187b 182e0b60c6d9984042f32d9d347a33fa e1a3a44db7791da08c259ba4f2de5b3c
24c7cc1c98b296bfb02375cb15657250
  56ad8a2c80971620b6f6405a37fa9314 2968ebaedb5f88f590fa8a0b794ce0c3 b280e20f7fb703d95ce4378b6eb5f016
"""


def requests(node: Node) -> list[ResolvedRequest]:
    resolved = [resolve(request, INVENTORY, node) for request in REQUESTS]
    return [*resolved, replace(resolved[0], model=LOCAL)]


@pytest.mark.parametrize("at", range(len(NODES)), ids=[node.name for node in NODES])
def test_digests_are_those_of_earlier_versions(at: int) -> None:
    resolved = requests(NODES[at])
    digests = [
        digest
        for request in resolved
        for digest in (
            request.fingerprint,
            *(match(request, engine, backend, FILES) for engine, backend in ENGINES),
        )
    ]
    assert digests == DIGESTS.split()[at * len(digests) : (at + 1) * len(digests)]
