"""The Python packages of the engines: what pip is asked for, and where there are builds for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

# "Prebuilt CUDA, ROCm, and Vulkan wheels are also available from the project package indexes": the README of
# xllamacpp 2026.10, section Installation. PyPI's wheel computes on the CPU, on macOS on Metal too.
_XLLAMACPP = "https://xorbitsai.github.io/xllamacpp/whl"
# There is cu132 too. This one serves more GPUs (from Maxwell on) and older drivers, and newer ones as well.
_CUDA = "cu128"
# "Built with ROCm 7.2.4 runs on any ROCm 7.x … does not run on ROCm 6.x" (the same README).
_ROCM = {"6": "rocm-6.4.1", "7": "rocm-7.2.4"}
# What compiles llama-cpp-python for a GPU: llama.cpp's switches, docs/build.md there.
CMAKE_ARGS = {"cuda": "-DGGML_CUDA=on", "rocm": "-DGGML_HIP=on", "vulkan": "-DGGML_VULKAN=on"}


@dataclass(frozen=True, slots=True)
class Package:
    """An engine that pip installs."""

    name: str
    wanted: str  # what pip is asked for
    companion: str  # a package it needs besides, which an index of GPU builds has not; "" for none
    # Python that imports it, prints `device=NAME` for each of its devices, and then `finished=yes`.
    trial: str


PACKAGES = {
    "xllamacpp": Package(
        "xllamacpp",
        "xllamacpp",
        "",
        "import xllamacpp\n"
        "for device in xllamacpp.get_device_info(): print('device=' + device['name'])\n"
        "print('finished=yes')",
    ),
    "llama-cpp-python": Package(
        "llama-cpp-python",
        "llama-cpp-python[server]",
        "uvicorn",
        "import os, llama_cpp, llama_cpp.server.app\n"
        "kinds = {'cuda': 'CUDA', 'hip': 'ROCm', 'vulkan': 'Vulkan', 'metal': 'Metal'}\n"
        "for name in os.listdir(os.path.join(os.path.dirname(llama_cpp.__file__), 'lib')):\n"
        "    for kind in kinds:\n"
        "        if 'ggml-' + kind in name: print('device=' + kinds[kind])\n"
        "print('finished=yes')",
    ),
}


def xllamacpp_index(backend: str, rocm: str | None) -> str | None:
    """The index with xllamacpp for this GPU backend; None when there is none, or which one cannot be told.

    Args:
        rocm: the version of ROCm on the node, such as "7.2.1"; None when it is not known.
    """
    if backend == "rocm":
        build = _ROCM.get((rocm or "").partition(".")[0])
    else:
        build = {"cuda": _CUDA, "vulkan": "vulkan"}.get(backend)
    return f"{_XLLAMACPP}/{build}" if build else None


def xllamacpp_indexes(backend: str) -> list[str]:
    """All indexes with xllamacpp for this backend."""
    builds = {"cuda": [_CUDA], "vulkan": ["vulkan"], "rocm": list(_ROCM.values())}.get(backend, [])
    return [f"{_XLLAMACPP}/{build}" for build in builds]
