"""`rbee nodes trust`: a node's host key, shown, agreed to, written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command
from rbee_ssh.cli.run import run_async
from rbee_ssh.errors import HostKeyUnknown, UsageInvalid

if TYPE_CHECKING:
    from rbee_ssh.ssh.trust import Fetched


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

    \b
      rbee nodes trust gpu1
      rbee nodes trust gpu1 --fingerprint SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8
    """
    if yes and fingerprint is None:
        raise UsageInvalid("--yes needs --fingerprint: a host key is never trusted unseen")
    inventory = cli.inventory()

    from rbee_ssh import inventory as inventories

    node = inventories.node(inventory, name)

    from rbee_ssh.ssh import trust as keys

    fetched = run_async(lambda: keys.fetch(inventory, node))
    console = cli.console
    key = f"{fetched.host} port {fetched.port}: {fetched.key_type} {fetched.fingerprint}"
    if fetched.known:
        console.say("its key is in known_hosts already")
    elif fingerprint is not None:
        if not matches(fingerprint, fetched.fingerprint):
            raise _refused(fetched, f"node {name} shows another host key than {fingerprint}: {key}")
    else:
        agreed = console.ask(f"{key}\nIs that the key of {name}?")
        if agreed is None:
            command_line = f"rbee nodes trust {name} --fingerprint {fetched.fingerprint}"
            reason = f"there is no terminal to ask whether this is the key of node {name}: {key}"
            raise _refused(fetched, reason, f"compare it, then: {command_line}")
        if not agreed:
            raise _refused(fetched, f"the host key of node {name} was not trusted")
    keys.save(fetched)
    if cli.as_json:
        console.json({"trusted": _details(fetched)})
    else:
        console.line(f"trusted {key}")


def matches(given: str, fetched: str) -> bool:
    """Whether a fingerprint is the one given; ssh-keygen writes its base64 without padding."""
    return given.strip().rstrip("=") == fetched.strip().rstrip("=")


def _refused(fetched: Fetched, message: str, hint: str | None = None) -> HostKeyUnknown:
    return HostKeyUnknown(message, hint=hint, details=_details(fetched))


def _details(fetched: Fetched) -> dict[str, Any]:
    return {
        "node": fetched.node,
        "host": fetched.host,
        "port": fetched.port,
        "key_type": fetched.key_type,
        "fingerprint": fetched.fingerprint,
        "file": fetched.file,
    }
