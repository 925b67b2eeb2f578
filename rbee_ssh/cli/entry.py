"""The program's first lines: from here on Ctrl+C shows no traceback, also in the middle of an import."""

from __future__ import annotations

import signal


def main() -> None:
    """The `rbee` program."""
    # Until `root` catches signals there is nothing to tidy up: it ends us as SIGTERM and SIGHUP do.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from rbee_ssh.cli.main import main as program

    program()
