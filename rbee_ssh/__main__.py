"""`python -m rbee_ssh` is `rbee`."""

from __future__ import annotations

from rbee_ssh.cli.main import main

main()
