"""What an engine, a hub, a worker or the registry did wrong, told alike in text and in JSON."""

from __future__ import annotations

import json

import pytest
from hubkit import Hub
from nodes.serving import PROMPT, equip, model, workers
from nodes.test_failures import ANSWERS, http
from nodes.test_start_errors import FAKE

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.faults import small_disk


def test_what_an_engine_cannot(node: LabNode, control: Control, engines: Engines) -> None:
    infer = ("infer", *model(engines), PROMPT)
    equip(control, engines, node)
    backend = control.failed(*infer, "--backend", "cuda")
    assert (backend["code"], "--backend cpu" in backend["hint"]) == ("BACKEND_UNAVAILABLE", True)
    assert "it has no GPU" in backend["message"]
    device = control.failed(*infer, "--device", "7", status=2)
    assert device["code"] == "DEVICE_INVALID"
    short = control.failed(*infer, "--context", "9000000")
    assert short["code"] == "RAM_SHORT"
    assert "MiB" in short["message"] and "--context" in short["hint"]
    node.write("text.gguf", "Once upon a time")
    invalid = control.failed("infer", "--model", f"file://{node.home}/text.gguf", PROMPT)
    assert (invalid["code"], "not a GGUF file" in invalid["message"]) == ("MODEL_INVALID", True)
    assert workers(control) == []


def test_what_a_hub_gives_or_does_not(node: LabNode, control: Control) -> None:
    content = b"GGUF" + bytes(1_000_000)
    with Hub(node.address.rpartition(".")[0] + ".1") as hub:
        hub.add("org/many", {"a-IQ2_M.gguf": content * 3, "a-IQ4_NL.gguf": content * 5})
        hub.add("org/one", {"a-Q4_K_M.gguf": content})
        hub.add("org/gated", {"a-Q4_K_M.gguf": content}, token="hf_x", gated=True)
        control.env["HF_ENDPOINT"] = hub.endpoint
        control.inventory(node)

        ambiguous = control.failed("models", "pull", "hf:org/many")
        assert ambiguous["code"] == "MODEL_AMBIGUOUS"
        assert ambiguous["hint"] == "rbee models pull hf:org/many/a-IQ2_M.gguf   # or another of them"
        lines = [line.split() for line in ambiguous["message"].splitlines()[1:]]
        assert lines == [["a-IQ2_M.gguf", "2.9", "MiB"], ["a-IQ4_NL.gguf", "4.8", "MiB"]]

        missing = control.failed("models", "pull", "hf:org/many:IQ4_XS")
        assert (missing["code"], missing["hint"]) == (
            "MODEL_NOT_FOUND",
            "rbee models pull hf:org/many:IQ4_NL",
        )
        assert missing["message"].endswith("it has IQ2_M, IQ4_NL")

        forbidden = control.failed("models", "pull", "hf:org/gated")
        assert (forbidden["code"], "HF_TOKEN" in forbidden["hint"]) == ("MODEL_FORBIDDEN", True)

        control.inventory(node, every={"models_dir": small_disk(node, "small", "64m")})
        short = control.failed("models", "pull", "hf:org/one")
        assert (short["code"], "models prune" in short["hint"]) == ("DISK_SHORT", True)


def test_a_registry_that_is_damaged_is_made_anew_out_of_the_nodes(
    node: LabNode, control: Control, engines: Engines
) -> None:
    equip(control, engines, node)
    started = control.rbee("workers", "start", *model(engines), check=True).stdout.strip()
    registry = control.home / ".local/state/rbee/registry.json"
    for damage in ('{"meta": {"sch', '{"meta":{"schema":{"version":99}}}'):
        registry.write_text(damage)
        listed = control.rbee("--json", "workers", "list")
        assert listed.returncode == 0
        assert [one["id"] for one in json.loads(listed.stdout)["workers"]] == [started]
        (aside,) = [one for one in registry.parent.glob("registry.corrupt-*") if one.read_text() == damage]
        assert "the registry was damaged" in listed.stderr and str(aside) in listed.stderr
        assert started in registry.read_text()


def counted(node: LabNode, answer: bytes) -> str:
    """A llama-server that gives this answer to every prompt, and writes down each."""
    count = f'open("{node.home}/asked", "a").write("x")'
    return FAKE + ANSWERS.replace("{answer}", f'({count}, bytes.fromhex("{answer.hex()}"))[1]')


@pytest.mark.parametrize(
    ("code", "answer", "asked", "words"),
    [
        # The key file on the node is read once again.
        ("API_KEY_REJECTED", http("401 Unauthorized"), 2, "the worker did not accept its API key"),
        (
            "RESPONSE_INVALID",
            http("200 OK\r\nContent-Type: text/html", "<html> " + "Proxy error. " * 99),
            1,
            "something that is no event stream: <html> Proxy error. Proxy",
        ),
    ],
    ids=["401", "a page"],
)
def test_an_answer_that_is_none(
    node: LabNode, control: Control, engines: Engines, code: str, answer: bytes, asked: int, words: str
) -> None:
    node.write("llama-server", counted(node, answer), mode=0o755)
    control.inventory(node, every={"engine": "llama-server", "engine_path": f"{node.home}/llama-server"})
    error = control.failed("infer", *model(engines), PROMPT)
    assert error["code"] == code
    assert words in error["message"]
    assert "\n" not in error["message"] and len(error["message"]) < 400
    assert len(node.outside("asked").read_text()) == 2 * asked, "two runs"
    control.rbee("workers", "stop", "--all", "--now", check=True)
