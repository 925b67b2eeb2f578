"""`python -m rbee_ssh` is `rbee`."""

from rbee_ssh.cli.entry import main

main()
