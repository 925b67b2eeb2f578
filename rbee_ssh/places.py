"""Where this machine keeps what belongs to one user."""

from __future__ import annotations

import os
from collections.abc import Mapping


def state_directory(environ: Mapping[str, str]) -> str:
    """`${XDG_STATE_HOME:-~/.local/state}/rbee`, always absolute.

    What stands there is believed. Where no home is known, or a relative one, it shall not be looked for in
    the current directory, which may be a stranger's.
    """
    state_home = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state_home):  # the XDG specification: a relative one is to be ignored
        home = environ.get("HOME") or os.path.expanduser("~")
        state_home = os.path.join("/", home, ".local", "state")
    return os.path.join(state_home, "rbee")
