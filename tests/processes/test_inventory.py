"""The inventory between real processes: no change is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rbee_ssh.inventory.find import look

PROGRAM = """
import sys
from pathlib import Path
from rbee_ssh.inventory.edit import with_node
from rbee_ssh.inventory.find import look
from rbee_ssh.inventory.save import save
draft = look(Path(sys.argv[1]), environ={"HOME": sys.argv[3]}, cwd=Path("/"), warn=print)
for number in range(8):
    name = f"n{sys.argv[2]}-{number}"
    save(draft, lambda text: with_node(text, name, {"host": name}))
"""


def test_of_many_at_once_none_loses_a_node(tmp_path: Path) -> None:
    path = tmp_path / "new" / "inventory.toml"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, str(number), tmp_path], stderr=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    assert [process.communicate(timeout=60)[1] for process in running] == [""] * 4
    names = {f"n{number}-{count}" for number in range(4) for count in range(8)}
    draft = look(path, environ={"HOME": str(tmp_path)}, cwd=Path("/"), warn=print)
    assert set(draft.inventory(path.read_text()).nodes) == names
    assert os.listdir(path.parent) == ["inventory.toml"]
