"""`rbee inventory`: what an inventory may do that is found in a directory."""

from __future__ import annotations

import os
from pathlib import Path

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import group

_FILE = click.argument("file", metavar="[FILE]", required=False)


@group("inventory", short_help="Allow an inventory that is found in a directory.")
def inventory() -> None:
    """Say what an inventory.toml may do that lies in the directory you are in.

    Somebody else may have put it there: it may name machines and models, and no more. Which program runs
    where, as whom you log in and by which way, only one decides that you named (--inventory, RBEE_INVENTORY,
    ~/.config/rbee/inventory.toml) or have allowed.
    """


@inventory.command("allow", short_help="Let it decide all that an inventory may.")
@_FILE
@pass_cli
def allow(cli: Cli, file: str | None) -> None:
    """Let an inventory.toml that is found decide all that an inventory may. Default: the one that is here.

    Shows which of its keys that is about. It is remembered by its path and content: once changed it has to be
    allowed anew, unless rbee itself has changed it. Files that it names, such as recipes, are not looked at.

    \b
      cat inventory.toml
      rbee inventory allow
    """
    from rbee_ssh.inventory.allowed import Allowed, key, sha256
    from rbee_ssh.inventory.faults import described, details
    from rbee_ssh.inventory.find import findable

    named = _named(cli, file)
    path, content, keys = findable(named, environ=os.environ, cwd=cli.cwd())
    Allowed(os.environ).allow(path, content)
    if cli.as_json:
        listed = details(str(named), keys)["faults"]
        cli.console.json({"allowed": key(path), "sha256": sha256(content), "keys": listed})
        return
    if keys:
        cli.console.line(described(str(named), keys))
    cli.console.line(f"allowed {key(path)}")


@inventory.command("deny", short_help="Take that back.")
@_FILE
@pass_cli
def deny(cli: Cli, file: str | None) -> None:
    """Take back what `rbee inventory allow` has allowed. The file need not be there any more."""
    from rbee_ssh.inventory.allowed import Allowed, key

    path = cli.cwd() / _named(cli, file)
    was = Allowed(os.environ).deny(path)
    if cli.as_json:
        cli.console.json({"denied": key(path), "was_allowed": was})
    else:
        cli.console.line(f"{key(path)} is no longer allowed" if was else f"{key(path)} was not allowed")


def _named(cli: Cli, file: str | None) -> Path:
    from rbee_ssh.inventory.find import NAME

    return Path(file or cli.inventory_path or NAME)
