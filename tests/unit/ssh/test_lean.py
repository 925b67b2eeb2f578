"""What importing asyncssh through us leaves out, seen in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str, path: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_what_rbee_cannot_use_is_not_loaded_and_not_forbidden_to_others() -> None:
    code = """
import sys
from rbee_ssh.ssh.lean import asyncssh
print("cryptography.x509" in sys.modules, "asyncssh.crypto.x509" in sys.modules)
import ctypes.util
print(ctypes.util.find_library.__module__)
"""
    assert python(code, os.environ["PATH"]).split() == ["False", "False", "ctypes.util"]


@pytest.mark.skipif(not Path("/etc/ld.so.cache").exists(), reason="no cache of the loader to look into")
def test_no_compiler_is_started_to_look_for_a_library(tmp_path: Path) -> None:
    started = tmp_path / "started"
    for tool in ("gcc", "cc", "ld"):
        program = tmp_path / tool
        program.write_text(f"#!/bin/sh\necho {tool} >>{started}\n")
        program.chmod(0o755)
    python("import rbee_ssh.ssh.lean", str(tmp_path))
    assert not started.exists()
    python("import ctypes.util; ctypes.util.find_library('rbee-nowhere')", str(tmp_path))
    assert started.exists(), "what is avoided does not happen here anyway"
