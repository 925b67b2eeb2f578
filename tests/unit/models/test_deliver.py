"""What a local model file is: its checksum, remembered as long as the file stays as it is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from rbee_ssh.errors import ModelInvalid
from rbee_ssh.models import deliver
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import SilentReporter

CONTENT = b"GGUF" + bytes(range(256)) * 3000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def identified(path: Path, registry: Registry) -> str:
    status = path.stat()
    stamp = (str(path), status.st_size, status.st_mtime_ns)
    return asyncio.run(deliver.identify(stamp, registry, SilentReporter())).sha256


def test_a_checksum_is_remembered_until_the_file_changes(model: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", reporter=SilentReporter())
    first = identified(model, registry)
    assert first == sha256_of(model)
    assert registry.facts(f"sha256:{model}") is not None
    before = model.stat()
    model.write_bytes(CONTENT[::-1])
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identified(model, registry) == first, "size and mtime say that it is the same"
    model.write_bytes(b"GGUF" + CONTENT)
    assert identified(model, registry) == sha256_of(model) != first


@pytest.mark.parametrize("remembered", [None, 5, "", "../../etc/passwd", "A" * 64])
def test_a_remembered_checksum_that_is_none_is_made_anew(
    model: Path, tmp_path: Path, remembered: object
) -> None:
    registry = Registry(tmp_path / "registry.json", reporter=SilentReporter())
    status = model.stat()
    fact = {"size": status.st_size, "mtime": status.st_mtime_ns, "sha256": remembered}
    registry.put_facts(f"sha256:{model}", {key: value for key, value in fact.items() if value is not None})
    assert identified(model, registry) == sha256_of(model)


def test_a_file_that_is_no_model_is_refused_and_not_remembered(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", reporter=SilentReporter())
    path = tmp_path / "notes.gguf"
    path.write_text("no GGUF")
    with pytest.raises(ModelInvalid, match="not a GGUF file"):
        identified(path, registry)
    assert registry.facts(f"sha256:{path}") is None


def test_a_file_that_grows_while_it_is_read_is_not_remembered(model: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", reporter=SilentReporter())
    stamp = (str(model), len(CONTENT) - 1, model.stat().st_mtime_ns)
    with pytest.raises(ModelInvalid, match="still being written"):
        asyncio.run(deliver.identify(stamp, registry, SilentReporter()))
    assert registry.facts(f"sha256:{model}") is None


def test_a_checksum_in_the_making_does_not_outlive_its_command(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", reporter=SilentReporter())
    path = tmp_path / "huge.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(16 << 30)  # a hole: much work, and no disk

    async def work() -> None:
        status = path.stat()
        stamp = (str(path), status.st_size, status.st_mtime_ns)
        async with asyncio.timeout(0.1):
            await deliver.identify(stamp, registry, SilentReporter())

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert time.monotonic() - began < 3
    assert registry.facts(f"sha256:{path}") is None
