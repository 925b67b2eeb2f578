"""A storm from the command line: nodes, control machines and a hub, then one run."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from pathlib import Path

from nodekit import NodeLab
from nodekit.engines import Engines, visible_directories
from storm import commands, look
from storm.run import Place, Storm

# Each with another login shell and, for the second one, another engine.
NODES = (
    ("north", "/bin/dash", "xllamacpp"),
    ("south", "/bin/bash", "llama-server"),
    ("west", "/bin/zsh", "xllamacpp"),
)


def main() -> int:
    words = argparse.ArgumentParser(prog="scripts/chaos")
    words.add_argument("--minutes", type=float, default=5.0)
    words.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    given = words.parse_args()
    print(f"seed {given.seed}, {given.minutes:g} minutes", flush=True)
    # What a shell starts in the background ignores Ctrl+C, and so would the commands that get it here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    engines = Engines(dict(os.environ))
    with NodeLab(visible=visible_directories(), one_core=True) as lab:
        places, keys = [], {}
        for name, shell, engine in NODES:
            node = lab.node(name, shell=shell, disks={look.DISK: "130m"})
            keys[name] = engines.inventory_keys(engine) | {"models_dir": look.MODELS}
            places.append(Place(node, _directory(keys[name])))
        controls = [lab.control("desk"), lab.control("laptop")]
        for control in controls:
            nodes = [place.node for place in places]
            control.inventory(*nodes, nodes_also=keys, text=commands.INVENTORY)
        return Storm(given.seed, places, controls, engines.model, f"{lab.network}.1").run(given.minutes * 60)


def _directory(keys: dict[str, str]) -> Path:
    """What has to go for an engine to be gone: its Python's environment, or the directory of its program."""
    if "python" in keys:
        return Path(keys["python"]).parent.parent
    return Path(keys["engine_path"]).parent


sys.exit(main())
