"""What setup decides before it does anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rbee_ssh.errors import BackendUnavailable, SetupFailed, UsageInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.provision.archive import Archive
from rbee_ssh.provision.plan import (
    ArchivePlan,
    Machine,
    PythonPlan,
    SetupRequest,
    directory,
    matches,
    plan,
    wanted,
)

DESK = Node("desk", "desk.example")
PLAIN = Machine("Linux")
NVIDIA = Machine("Linux", (("RTX 3090", "cuda"),))
MAC = Machine("Darwin", (("Apple M2", "metal"),))
ARCHIVE = Archive(Path("/tmp/llama-b7010-bin-ubuntu-x64.tar.gz"), None, "ab" * 32, "ab" * 32)


def amd(rocm: str | None) -> Machine:
    return Machine("Linux", (("RX 7900", "rocm"),), rocm)


def options(engine: str | None = None, **given: Any) -> SetupRequest:
    every = dict.fromkeys(("backend", "archive", "sha256", "index_url", "cmake_args")) | given
    return wanted(engine, **every)


def python(machine: Machine, *, node: Node = DESK, engine: str = "xllamacpp", **given: Any) -> PythonPlan:
    todo = plan(node, SetupRequest(engine, **given), machine)
    assert isinstance(todo, PythonPlan)
    return todo


def test_the_engine_follows_from_what_is_given() -> None:
    assert options().engine == "xllamacpp"
    assert options(archive=ARCHIVE).engine == "llama-server"
    assert options("llama-cpp-python", cmake_args="").cmake_args is None


@pytest.mark.parametrize(
    ("engine", "given", "says"),
    [
        ("llama-server", {}, "release archive"),
        ("xllamacpp", {"archive": ARCHIVE}, "does not go with"),
        (None, {"sha256": "ab" * 32}, "--archive"),
        (None, {"archive": ARCHIVE, "index_url": "https://a/b"}, "--index-url"),
        (None, {"index_url": "-r/etc/passwd"}, "not a URL"),
        (None, {"index_url": "https://a/b --extra"}, "not a URL"),
        (None, {"index_url": "http://u:hunter2@a/b"}, "changed on its way"),
    ],
)
def test_options_that_do_not_fit_together(engine: str | None, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageInvalid, match=says):
        options(engine, **given)


@pytest.mark.parametrize(
    ("machine", "backend", "index", "pattern"),
    [
        (PLAIN, None, None, ""),
        (NVIDIA, None, "https://xorbitsai.github.io/xllamacpp/whl/cu128", "CUDA"),
        (NVIDIA, "cpu", None, ""),
        (NVIDIA, "vulkan", "https://xorbitsai.github.io/xllamacpp/whl/vulkan", "Vulkan"),
        (PLAIN, "vulkan", "https://xorbitsai.github.io/xllamacpp/whl/vulkan", "Vulkan"),
        (amd("7.2.1"), None, "https://xorbitsai.github.io/xllamacpp/whl/rocm-7.2.4", "ROCm"),
        (amd("6.4.1-98"), "rocm", "https://xorbitsai.github.io/xllamacpp/whl/rocm-6.4.1", "ROCm"),
        (MAC, None, None, "MTL|Metal"),
    ],
)
def test_a_node_gets_the_build_for_its_gpu(
    machine: Machine, backend: str | None, index: str | None, pattern: str
) -> None:
    todo = python(machine, backend=backend)
    assert (todo.package.name, todo.index, todo.pattern) == ("xllamacpp", index, pattern)


def test_a_gpu_without_its_driver_is_not_taken_for_none() -> None:
    broken = Machine("Linux", broken="nvidia-smi fails: exit status 9")
    with pytest.raises(SetupFailed, match="exit status 9") as caught:
        python(broken)
    assert "rbee nodes setup desk --backend cpu" in str(caught.value.hint)
    assert python(broken, backend="cpu").index is None


def test_the_inventorys_backend_counts_and_the_option_wins() -> None:
    cpu = Node("desk", "desk.example", backend="cpu")
    assert python(NVIDIA, node=cpu).pattern == ""
    assert python(NVIDIA, node=cpu, backend="cuda").pattern == "CUDA"


def test_an_index_that_was_given_is_meant() -> None:
    assert python(amd(None), index_url="https://mirror/simple").index == "https://mirror/simple"


@pytest.mark.parametrize("version", [None, "5.7.1", "x"])
def test_a_rocm_without_a_build_is_an_error_that_names_both(version: str | None) -> None:
    with pytest.raises(SetupFailed) as caught:
        python(amd(version))
    assert "--index-url https://xorbitsai.github.io/xllamacpp/whl/rocm-7.2.4" in str(caught.value.hint)
    assert "rocm-6.4.1" in str(caught.value.hint)
    assert "rbee nodes setup desk --backend cpu" in str(caught.value.hint)


def test_llama_cpp_python_is_compiled_for_a_gpu_only_when_told_how() -> None:
    with pytest.raises(SetupFailed) as caught:
        python(NVIDIA, engine="llama-cpp-python")
    assert "CMAKE_ARGS=-DGGML_CUDA=on rbee nodes setup desk" in str(caught.value.hint)
    told = python(NVIDIA, engine="llama-cpp-python", cmake_args="-DGGML_CUDA=on")
    assert (told.cmake_args, told.index, told.pattern) == ("-DGGML_CUDA=on", None, "CUDA")
    assert python(PLAIN, engine="llama-cpp-python").cmake_args is None


@pytest.mark.parametrize(
    ("machine", "backend"), [(PLAIN, "cuda"), (NVIDIA, "rocm"), (PLAIN, "metal"), (MAC, "vulkan")]
)
def test_a_backend_without_a_device_is_refused(machine: Machine, backend: str) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        python(machine, backend=backend)
    assert caught.value.hint == "rbee nodes setup desk --backend cpu"


@pytest.mark.parametrize(
    ("node", "asked"),
    [
        (Node("desk", "d", python="/opt/python"), SetupRequest("xllamacpp")),
        (Node("desk", "d", engine_path="/opt/llama-server"), SetupRequest("llama-server", archive=ARCHIVE)),
        (Node("desk", "d", engine_path="/opt/llama-server"), SetupRequest("xllamacpp")),
    ],
)
def test_an_engine_that_the_inventory_names_would_hide_the_new_one(node: Node, asked: SetupRequest) -> None:
    with pytest.raises(UsageInvalid, match="never be looked at"):
        plan(node, asked, PLAIN)


def test_an_archive_has_a_directory_of_its_own() -> None:
    todo = plan(DESK, SetupRequest("llama-server", archive=ARCHIVE), NVIDIA)
    assert isinstance(todo, ArchivePlan)
    assert (todo.directory, todo.pattern) == ("llama-b7010-bin-ubuntu-x64-abababababab", "CUDA")


@pytest.mark.parametrize(
    "url",
    ["https://h/..", "https://h/", "https://h/%2e%2e", "https://h/a b;$(x).zip", "https://h/" + "a" * 300],
)
def test_a_directorys_name_is_a_plain_word(url: str) -> None:
    name = directory(Archive(None, url, None, "cd" * 32))
    assert name.endswith("-cdcdcdcdcdcd")
    assert len(name) < 100
    assert not name.startswith((".", "-"))
    assert not set(name) & set("/ ;$()%")


def test_an_engine_does_when_it_has_the_device() -> None:
    assert matches(("cpu",), "")
    assert matches((), "")
    assert matches(("cpu", "cuda"), "CUDA")
    assert not matches(("cpu",), "CUDA")
    assert not matches((), "CUDA")


def test_secrets_in_urls_are_not_shown() -> None:
    asked = SetupRequest("xllamacpp", index_url="https://me:secret@host/simple")
    assert "secret" not in repr(asked)
    assert "secret" not in repr(plan(DESK, asked, PLAIN))
