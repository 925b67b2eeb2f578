"""Which engine serves, on what; and what is said when none can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import (
    BackendInvalid,
    BackendUnavailable,
    DeviceInvalid,
    EngineBroken,
    EngineMissing,
    RbeeError,
)
from rbee_ssh.inventory import BACKENDS, ENGINES, Node
from rbee_ssh.node.choose import Choice, choose_engine
from rbee_ssh.node.facts import Facts, parse_facts
from rbee_ssh.node.gpus import Gpu

FIXTURES = Path(__file__).with_name("fixtures")
RTX = Gpu(0, "RTX 3090", "nvidia", "cuda", 24 << 30, 23 << 30, "570")
RADEON = Gpu(0, "RX 7900", "amd", "rocm", 20 << 30, 19 << 30)
SERVER = EngineFound("llama-server", "/opt/llama-server", "1")
WHEEL = EngineFound("xllamacpp", "/venv/bin/python", "2")
BINDING = EngineFound("llama-cpp-python", "/venv/bin/python", "3")


def machine(name: str) -> Facts:
    return parse_facts((FIXTURES / f"{name}.txt").read_text())


def choose(facts: Facts, **asked: Any) -> Choice:
    keys = {key: asked.pop(key) for key in ("engine_path", "python") if key in asked}
    options = {"engine": "auto", "backend": "auto", "device": None, **asked}
    return choose_engine(facts, Node("desk", "10.0.0.1", **keys), **options)


def cpu(engine: EngineFound) -> EngineFound:
    return replace(engine, backends=("cpu",))


def test_auto_takes_the_first_that_runs() -> None:
    broken = replace(SERVER, problem="exit status 132")
    assert choose(Facts(engines=(SERVER, WHEEL))).engine is SERVER
    assert choose(Facts(engines=(broken, WHEEL, BINDING))).engine is WHEEL


def test_a_named_engine_is_meant() -> None:
    assert choose(Facts(engines=(SERVER, WHEEL)), engine="xllamacpp").engine is WHEEL
    with pytest.raises(EngineMissing) as caught:
        choose(Facts(engines=(SERVER, WHEEL)), engine="llama-cpp-python")
    assert "no llama-cpp-python on desk" in caught.value.message


@pytest.mark.parametrize(
    ("engine", "hint"),
    [
        ("auto", "rbee nodes setup desk"),
        ("xllamacpp", "rbee nodes setup desk"),
        ("llama-cpp-python", "rbee nodes setup desk --engine llama-cpp-python"),
    ],
)
def test_an_error_tells_where_it_looked_and_what_to_type(engine: str, hint: str) -> None:
    with pytest.raises(EngineMissing) as caught:
        choose(machine("ubuntu-nvidia-no-driver"), engine=engine)
    assert "looked for" in caught.value.message
    assert caught.value.hint == hint


def test_what_the_inventory_points_at_is_to_be_changed_there() -> None:
    """`setup` refuses to install beside it."""
    facts = Facts(
        looked=("xllamacpp and llama-cpp-python in /x/python",),
        problems=("/x/python does not run: exit status 126, found but", "nvidia-smi fails"),
    )
    with pytest.raises(EngineMissing) as missing:
        choose(facts, python="/x/python")
    assert missing.value.message.endswith("; /x/python does not run: exit status 126, found but")
    with pytest.raises(EngineBroken) as broken:
        choose(Facts(engines=(replace(SERVER, problem="exit status 126"),)), engine_path="/e", python="/p")
    for error, keys in ((missing, "python"), (broken, "engine_path and python")):
        assert error.value.hint == (
            f"change {keys} of node desk in the inventory, or remove it, then: rbee nodes setup desk"
        )


def test_a_path_that_is_given_is_meant() -> None:
    """As engines.sh has it when it is asked for one engine; asked for all, it finds the others, too."""
    broken = replace(SERVER, problem="exit status 127")
    with pytest.raises(EngineBroken):
        choose(Facts(engines=(broken, WHEEL)), engine_path="/e")
    assert choose(Facts(engines=(broken, WHEEL)), engine="xllamacpp", engine_path="/e").engine is WHEEL


def test_llama_server_comes_from_an_archive() -> None:
    with pytest.raises(EngineMissing) as caught:
        choose(Facts(), engine="llama-server")
    assert "rbee nodes setup desk --archive FILE" in str(caught.value.hint)


def test_one_that_was_found_and_does_not_run_is_not_called_missing() -> None:
    broken = replace(SERVER, problem="exit status 132, illegal instruction (SIGILL)")
    with pytest.raises(EngineBroken) as caught:
        choose(Facts(engines=(broken,)))
    assert "/opt/llama-server: exit status 132" in caught.value.message


@pytest.mark.parametrize(
    ("name", "backend", "device"),
    [
        ("debian-dash", "cpu", None),
        ("debian-auto", "cpu", None),
        ("ubuntu-nvidia", "cuda", None),
        ("ubuntu-rocm", "rocm", None),
        ("macos-apple-silicon", "metal", None),
    ],
)
def test_auto_comes_to_what_the_machine_has(name: str, backend: str, device: str | None) -> None:
    choice = choose(machine(name))
    assert (choice.backend, choice.device, choice.warning) == (backend, device, None)


def test_a_gpu_that_the_engine_cannot_use_is_a_warning_with_the_fix() -> None:
    choice = choose(machine("ubuntu-nvidia-cpu-engine"))
    assert (choice.engine.name, choice.backend) == ("xllamacpp", "cpu")
    warning = str(choice.warning)
    assert "RTX 3090" in warning
    assert warning.endswith("for the GPU: rbee nodes setup desk")
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("engine", "gpu", "fix"),
    [
        (
            SERVER,
            RTX,
            "rbee nodes setup desk --archive FILE   # or URL, of a llama.cpp release built for cuda",
        ),
        (WHEEL, RADEON, "rbee nodes setup desk"),
        (BINDING, RTX, "CMAKE_ARGS=-DGGML_CUDA=on rbee nodes setup desk --engine llama-cpp-python"),
        (BINDING, RADEON, "CMAKE_ARGS=-DGGML_HIP=on"),
    ],
)
def test_every_engine_has_its_fix(engine: EngineFound, gpu: Gpu, fix: str) -> None:
    warning = str(choose(Facts(engines=(cpu(engine),), gpus=(gpu,))).warning)
    assert gpu.name in warning
    assert fix in warning


def test_no_warning_when_the_cpu_was_asked_for() -> None:
    choice = choose(machine("ubuntu-nvidia-cpu-engine"), backend="cpu")
    assert (choice.backend, choice.warning) == ("cpu", None)


def test_a_backend_that_was_asked_for_is_looked_for_in_every_engine() -> None:
    facts = machine("ubuntu-nvidia-cpu-engine")
    able = replace(facts.engines[1], problem=None)
    choice = choose(replace(facts, engines=(facts.engines[0], able)), backend="cuda")
    assert (choice.engine.name, choice.backend) == ("llama-cpp-python", "cuda")


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("debian-dash", "cuda"),
        ("debian-dash", "vulkan"),
        ("debian-dash", "metal"),
        ("ubuntu-nvidia", "rocm"),
        ("ubuntu-nvidia", "vulkan"),
        ("ubuntu-nvidia", "metal"),
        ("macos-apple-silicon", "cuda"),
        ("ubuntu-nvidia-cpu-engine", "cuda"),
    ],
)
def test_there_is_no_fallback(name: str, backend: str) -> None:
    facts = machine(name)
    with pytest.raises(BackendUnavailable) as caught:
        choose(facts, backend=backend)
    assert f"desk cannot compute on {backend}" in caught.value.message
    assert facts.engines[0].path in caught.value.message
    assert all(gpu.name in caught.value.message for gpu in facts.gpus)
    assert "--backend cpu" in str(caught.value.hint)


def test_a_driver_that_fails_is_named_as_the_reason() -> None:
    facts = replace(machine("ubuntu-nvidia-no-driver"), engines=(cpu(SERVER),))
    with pytest.raises(BackendUnavailable) as caught:
        choose(facts, backend="cuda")
    assert "couldn't communicate with the NVIDIA driver" in caught.value.message


def test_an_engine_that_did_not_tell_is_believed_where_the_gpu_is_there() -> None:
    assert choose(Facts(engines=(SERVER,), gpus=(RTX,)), backend="cuda").backend == "cuda"
    assert choose(Facts(engines=(SERVER,), gpus=(RTX,))).backend == "auto"
    with pytest.raises(BackendUnavailable):
        choose(Facts(engines=(SERVER,)), backend="cuda")


def test_a_gpu_that_rbee_has_no_word_for_is_left_to_the_engine() -> None:
    intel = replace(SERVER, backends=("cpu",), devices=("SYCL0",))
    assert choose(Facts(engines=(intel,))).backend == "auto"
    assert choose(Facts(engines=(replace(intel, devices=("BLAS", "RPC[h:1]")),))).backend == "cpu"


def test_a_build_for_two_backends_is_kept_to_the_one_that_was_asked_for() -> None:
    both = replace(SERVER, backends=("cpu", "cuda", "vulkan"), devices=("CUDA0", "Vulkan0", "Vulkan1"))
    assert choose(Facts(engines=(both,)), backend="vulkan").device == "0,1"
    assert choose(Facts(engines=(both,))).backend == "cuda"
    assert choose(Facts(engines=(both,))).device == "0"


@pytest.mark.parametrize("device", ["0", "1", "0,1", "1,0"])
def test_devices_that_are_there(device: str) -> None:
    assert choose(machine("ubuntu-nvidia"), device=device).device == device


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("ubuntu-nvidia", {"device": "2"}, ("no device 2 for cuda", "0 (CUDA0), 1 (CUDA1)")),
        ("ubuntu-nvidia", {"device": "0,7", "backend": "cuda"}, ("no device 7",)),
        ("ubuntu-nvidia", {"device": "first"}, ("not a list of device indices",)),
        ("ubuntu-nvidia", {"device": "-1"}, ("not a list",)),
        ("ubuntu-nvidia", {"device": "0\n"}, ("not a list",)),
        ("ubuntu-nvidia", {"device": ""}, ("not a list",)),
        ("ubuntu-nvidia", {"device": "0", "backend": "cpu"}, ("computes on the CPU",)),
        ("debian-dash", {"device": "0"}, ("computes on the CPU",)),
    ],
)
def test_devices_that_are_not(name: str, asked: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(DeviceInvalid) as caught:
        choose(machine(name), **asked)
    assert all(word in caught.value.message for word in words)


def test_a_slip_in_the_backend() -> None:
    with pytest.raises(BackendInvalid) as caught:
        choose(machine("ubuntu-nvidia"), backend="cudaa")
    assert "--backend cuda" in str(caught.value.hint)


@given(
    name=st.sampled_from(sorted(path.stem for path in FIXTURES.glob("*.txt"))),
    engine=st.sampled_from(ENGINES),
    backend=st.one_of(st.sampled_from(BACKENDS), st.text(max_size=8)),
    device=st.one_of(st.none(), st.sampled_from(["0", "1", "0,1", "9"]), st.text(max_size=5)),
)
def test_a_choice_keeps_what_was_asked_for_or_an_error_says_why(
    name: str, engine: str, backend: str, device: str | None
) -> None:
    try:
        choice = choose(machine(name), engine=engine, backend=backend, device=device)
    except RbeeError as error:
        assert error.message
        return
    assert engine in ("auto", choice.engine.name)
    assert choice.engine.problem is None
    assert backend in ("auto", choice.backend)
    assert device in (None, choice.device)
