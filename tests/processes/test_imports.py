"""What a command does not import, seen in a fresh interpreter."""

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


def test_version_imports_nothing_heavy() -> None:
    code = (
        "import sys; from rbee_ssh.cli.main import run; assert run(['--version']) == 0;"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('asyncio','asyncssh','httpx','h11','rich','tinydb','tomllib','fabric','paramiko','json')"
        " or m.startswith(('rbee_ssh.inventory','rbee_ssh.registry','rbee_ssh.workers'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "rbee 0.1.0\n[]\n"


def test_rich_is_loaded_where_it_draws_alone() -> None:
    """It takes 45 to 70 ms: not for an answer, a status line or a pipe."""
    code = (
        "import os, sys, rbee_ssh.cli.infer, rbee_ssh.cli.nodes.status, rbee_ssh.workers.ask;"
        "import rbee_ssh.workers.start;"
        "from rbee_ssh.cli.console import Console;"
        "there = lambda: print('rich' in sys.modules, 'rbee_ssh.cli.log' in sys.modules);"
        "c = Console();"
        "c.progress('m', 1, 2); c.status('m'); c.warn('m'); c.answer(''); c.end_answer(); there();"
        "t = open(os.openpty()[1], 'w'); c = Console(stdout=t, stderr=t, environ={});"
        "c.status('m'); c.say('m'); c.thinking('m'); c.answer('m'); c.end_answer(); there();"
        "c.progress('m', 1, 2); there()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\nFalse False\nTrue False\n"


def test_importing_the_registry_imports_no_tinydb() -> None:
    code = "import sys, rbee_ssh.registry; sys.exit('tinydb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
