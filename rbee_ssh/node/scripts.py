"""The POSIX sh sources that stand beside the Python that sends them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rbee_ssh.ssh.script import Script

LIB = Path(__file__).with_name("lib")
OWNERS = Path(__file__).with_name("owners.sh")
SESSION = LIB / "session.sh"
LOOK = Path(__file__).with_name("snapshot.sh")
SUPERVISE = Path(__file__).with_name("supervise.sh")


@cache
def source(path: Path) -> str:
    """The script, or all of a directory, without comment lines: they would travel with every question."""
    files = sorted(path.glob("*.sh")) if path.is_dir() else [path]
    lines = "".join(file.read_text(encoding="utf-8") for file in files).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#")) + "\n"


def compose(*paths: Path, then: str = "") -> Script:
    """The sources one after the other, and a last line of calls. The last source gives it its name."""
    return Script("".join(source(path) for path in paths) + then + "\n", paths[-1].stem)
