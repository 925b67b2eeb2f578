"""Keys for tests of the way to a node, and whether it is open."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nodekit import Control, LabNode


def reached(control: Control, node: LabNode | str, **env: str) -> bool:
    """Whether a command gets to the node; what it says when it does not is shown by a failing test."""
    name = node if isinstance(node, str) else node.name
    answer = control.rbee("workers", "list", "--node", name, env=env)
    assert answer.returncode == 0, answer.stderr
    assert "unexpected" not in answer.stderr
    print(answer.stderr)
    return "warning" not in answer.stderr


def new_key(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair; type and base64 of its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def host_key(node: LabNode) -> str:
    return " ".join(node.host_key_line.split()[1:])


def fingerprint(node: LabNode) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", node.directory / "host_key.pub"],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split()[1]
