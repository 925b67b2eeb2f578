"""llama.cpp's names for the devices it computes on, and the variables that hide devices from it."""

from __future__ import annotations

PREFIXES = {"cuda": ("CUDA",), "rocm": ("ROCm",), "metal": ("MTL", "Metal"), "vulkan": ("Vulkan",)}
"""GPU backend → how the names of its devices begin, in the order in which "auto" prefers them."""

NOT_A_GPU = ("CPU", "BLAS", "RPC", "Accelerate")

# The variable that says which devices are seen, and its value for none of them: ggml's Vulkan reads an empty
# list so, CUDA and HIP want an index that does not exist.
_VISIBLE = {
    "cuda": ("CUDA_VISIBLE_DEVICES", "-1"),
    "rocm": ("HIP_VISIBLE_DEVICES", "-1"),
    "vulkan": ("GGML_VK_VISIBLE_DEVICES", ""),
}


def backend_of(device: str) -> str | None:
    """The backend of a device that llama.cpp calls `device`: "CUDA0" → "cuda". None for any other."""
    return next((backend for backend, prefixes in PREFIXES.items() if device.startswith(prefixes)), None)


def names(backend: str, device: str | None) -> tuple[str, ...]:
    """Indices as llama.cpp names: ("cuda", "0,1") → ("CUDA0", "CUDA1").

    Empty for Metal: a Mac has one device, and its name has changed between versions.
    """
    if device is None or backend not in PREFIXES or backend == "metal":
        return ()
    return tuple(f"{PREFIXES[backend][0]}{index.strip()}" for index in device.split(","))


def visible(backend: str, device: str | None) -> tuple[tuple[str, str], ...]:
    """Variables for an engine without an option for devices: "cpu" hides all GPUs, `device` all but those.

    CUDA's own order is by speed; by PCI bus its indices are those of nvidia-smi.
    """
    if backend == "cpu":
        return tuple(_VISIBLE.values())
    order = (("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),) if backend == "cuda" else ()
    if device is None or backend not in _VISIBLE:
        return order
    return (*order, (_VISIBLE[backend][0], device.replace(" ", "")))
