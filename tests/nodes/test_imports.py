"""How many files of ours one has to read, and the program to load, for `rbee infer`."""

from __future__ import annotations

import json
import sys

from nodes.serving import GREEDY, PROMPT, equip, model

from nodekit import Control, LabNode
from nodekit.engines import Engines
from nodekit.running import run

# Of a node that has the model and the engine. The empty modules of packages count as well.
FULL, WARM = 72, 45
PROGRAM = """
import json, sys
from rbee_ssh.cli.entry import main
try:
    main()
finally:
    ours = [name for name in sys.modules if name.split(".")[0] == "rbee_ssh"]
    print(json.dumps(sorted(ours)), file=sys.stderr)
"""


def imported(control: Control, *args: str) -> list[str]:
    """The modules of ours that an `rbee` with these arguments has imported when it ends."""
    answer = run(
        [*control.way_in, sys.executable, "-c", PROGRAM, *args],
        timeout=60,
        check=True,
        env=control.env,
        cwd=control.work,
    )
    return list(json.loads(answer.stderr.splitlines()[-1]))


def test_an_answer_takes_few_modules(control: Control, engines: Engines, node: LabNode) -> None:
    equip(control, engines, node)
    words = ("infer", *model(engines), *GREEDY, "--max-tokens", "2", PROMPT)
    for limit in (FULL, WARM):
        modules = imported(control, *words)
        assert len(modules) <= limit, "\n".join(modules)
