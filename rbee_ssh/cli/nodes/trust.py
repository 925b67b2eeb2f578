"""`rbee nodes trust`: a node's host key, shown, agreed to, written down."""

from __future__ import annotations

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.event_loop import run_async
from rbee_ssh.cli.nodes import host_keys
from rbee_ssh.cli.options import command
from rbee_ssh.errors import RbeeError, UsageInvalid


@command(short_help="Trust a node's host key.")
@click.argument("name", metavar="NAME")
@click.option(
    "--fingerprint", metavar="SHA256:…", help="The fingerprint the key must have; then nothing is asked."
)
@click.option("--yes", is_flag=True, help="Do not ask. Needs --fingerprint: a key is never trusted unseen.")
@pass_cli
def trust(cli: Cli, name: str, fingerprint: str | None, yes: bool) -> None:
    """Fetch a node's host key, show its fingerprint, and after a yes add it to ~/.ssh/known_hosts.

    Compare it with what the machine itself says; there, run:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

    The line is written as ssh would write it, with a hashed name where known_hosts has hashed names.

    \b
      rbee nodes trust gpu1
      rbee nodes trust gpu1 --fingerprint SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8
    """
    if yes and fingerprint is None:
        raise UsageInvalid("--yes needs --fingerprint: a host key is never trusted unseen")
    inventory = cli.inventory()

    from rbee_ssh import inventory as inventories

    node = inventories.node(inventory, name)

    from rbee_ssh.fleet.candidates import fetch_keys
    from rbee_ssh.ssh.trust import save

    fetched = run_async(lambda: fetch_keys(inventory, [node.name]))[node.name]
    if isinstance(fetched, RbeeError):
        raise fetched
    console = cli.console
    host_keys.agree(
        console, fetched, () if fingerprint is None else (fingerprint,), f"rbee nodes trust {name}"
    )
    if fetched.known:
        console.say("its key is in known_hosts already")
    save(fetched)
    if cli.as_json:
        console.json({"trusted": host_keys.details(fetched)})
    else:
        console.line(f"trusted {host_keys.described(fetched)}")
