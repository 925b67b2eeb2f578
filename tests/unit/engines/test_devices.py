"""Device names of llama.cpp."""

from __future__ import annotations

import pytest

from rbee_ssh.engines.devices import backend_of, names


@pytest.mark.parametrize(
    ("device", "backend"),
    [
        ("CUDA0", "cuda"),
        ("ROCm1", "rocm"),
        ("Vulkan0", "vulkan"),
        ("Metal", "metal"),
        ("MTL0", "metal"),
        ("BLAS", None),
        ("RPC[10.0.0.2:50052]", None),
        ("SYCL0", None),
    ],
)
def test_the_backend_of_a_device(device: str, backend: str | None) -> None:
    assert backend_of(device) == backend


def test_indices_as_names() -> None:
    assert names("cuda", "0, 2") == ("CUDA0", "CUDA2")
    assert names("cuda", None) == ()
    assert names("metal", "0") == ()
    assert names("cpu", "0") == ()
