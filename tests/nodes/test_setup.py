"""`rbee nodes setup` on real sshd nodes without an engine or internet; an index on the host serves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from nodes.packages import make_index, served
from nodes.serving import GREEDY, PROMPT, model, text_of

from nodekit import Control, LabNode, NodeLab
from nodekit.engines import Engines


@pytest.fixture(scope="module")
def index(lab: NodeLab, engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a directory with `simple/`, an index of the wheels."""
    directory = tmp_path_factory.mktemp("index")
    make_index(directory, engines.wheels)
    with served(directory, f"{lab.network}.1") as url:
        yield url


def trusting_pip(index: str) -> dict[str, str]:
    """What lets a node's pip use an index without TLS."""
    host = index.removeprefix("http://")
    return {".config/pip/pip.conf": f"[global]\ntrusted-host = {host}\n"}


def test_from_an_empty_home_to_tokens(
    make_node: Callable[..., LabNode], control: Control, engines: Engines, index: str
) -> None:
    node = make_node(files=trusting_pip(index))
    control.inventory(node)
    missing = control.rbee("--json", "infer", "--node", node.name, *model(engines), PROMPT)
    error = json.loads(missing.stdout)["error"]
    assert error["code"] == "ENGINE_MISSING"
    done = control.rbee("--debug", "nodes", "setup", node.name, "--index-url", f"{index}/simple")
    assert done.returncode == 0, done.stderr
    again = control.rbee("nodes", "setup", node.name, "--json", "--index-url", f"{index}/simple")
    assert "already there: xllamacpp" in again.stderr
    assert json.loads(again.stdout)["nodes"][0]["changed"] is False
    answer = control.rbee(
        "--json", "infer", "--node", node.name, *GREEDY, *model(engines), "--max-tokens", "8", PROMPT
    )
    assert answer.returncode == 0, answer.stderr
    assert text_of(answer)
