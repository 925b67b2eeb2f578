"""`python -m rbee_ssh` is `rbee`."""

from __future__ import annotations

from rbee_ssh.cli.entry import main

main()
