"""`rbee nodes add`: a machine into the inventory, once it is known to work."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.nodes import host_keys
from rbee_ssh.cli.nodes.candidates import missing, summary, tried
from rbee_ssh.cli.options import command, options
from rbee_ssh.errors import HostKeyUnknown, InventoryInvalid, UsageInvalid
from rbee_ssh.wording import quoted

if TYPE_CHECKING:
    from rbee_ssh.inventory import Inventory
    from rbee_ssh.inventory.find import InventorySource

key_options = options(
    click.option(
        "--host", metavar="HOST", help="An address, or a Host of ~/.ssh/config. Default: the node's name."
    ),
    click.option("--port", type=int, metavar="PORT", help="Default: what ~/.ssh/config says, else 22."),
    click.option("--user", metavar="USER", help="Default: what ~/.ssh/config says, else your own name."),
    click.option("--identity-file", metavar="FILE", help="The private key that opens it."),
    click.option(
        "--jump",
        multiple=True,
        metavar="HOP",
        help="The way there: a node, or [user@]host[:port]. May be repeated, in order.",
    ),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="A group it is in. May be repeated."),
    click.option("--engine", metavar="NAME", help="llama-server, xllamacpp, llama-cpp-python, or auto."),
    click.option(
        "--engine-path", metavar="PATH", help="The engine's program, where it is in no usual place."
    ),
    click.option("--python", metavar="PATH", help="The Python there that has the engine's package."),
    click.option("--backend", metavar="NAME", help="cpu, cuda, rocm, vulkan, metal, or auto."),
    click.option("--device", metavar="LIST", help="Indices of the backend's devices: 0, or 0,1."),
    click.option("--models-dir", metavar="DIR", help="Where models are kept there."),
    click.option(
        "--env", multiple=True, metavar="NAME=VALUE", help="A variable of the engine. May be repeated."
    ),
    click.option("--listen", metavar="HOW", help="unix or tcp: how a worker listens there."),
    click.option("--lease", metavar="TIME", help="How long a worker may be unused there: 2h."),
    click.option(
        "--setup", multiple=True, metavar="FILE.py:TASK", help="A Fabric task of yours. May be repeated."
    ),
)


@command(short_help="Add a machine to the inventory, once it works.")
@click.argument("name", metavar="NAME")
@key_options
@click.option("--replace", is_flag=True, help="Where there is such a node, give it these settings instead.")
@click.option("--no-check", is_flag=True, help="Save it without connecting to it.")
@click.option(
    "--fingerprint", metavar="SHA256:…", help="The fingerprint its host key must have; then nothing is asked."
)
@pass_cli
def add(
    cli: Cli, /, name: str, replace: bool, no_check: bool, fingerprint: str | None, **settings: Any
) -> None:
    """Connect to a machine, say what it has and what is missing, and add it to the inventory.

    A machine that cannot be used (not reached, no login, no shell) is not saved. A host key that is not in
    ~/.ssh/known_hosts is shown and asked about, as ssh does; without a terminal it needs --fingerprint.

    The inventory keeps its comments and its order. Where there is none, ~/.config/rbee/inventory.toml is
    made, or the file that --inventory names.

    \b
      rbee nodes add workstation --host workstation.home.arpa --user me --identity-file ~/.ssh/id_ed25519
      rbee nodes add gpu1 --host 10.0.0.5 --jump bastion --tag gpu
    """
    from rbee_ssh.inventory import edit
    from rbee_ssh.inventory.save import save

    console = cli.console
    draft = cli.draft()
    before = draft.inventory(draft.text or "")
    keys = node_keys(name, settings, os.environ.get("HOME", ""), os.path.abspath)

    def change(text: str) -> str:
        return edit.with_node(text, name, keys, replace=replace)

    planned = checked(draft, change(draft.text or ""), name)
    facts = None
    if not no_check:
        given = () if fingerprint is None else (fingerprint,)
        trial = tried(cli, planned, [name], given, command_line(name, keys, replace))[name]
        if trial.error is not None:
            console.say(f"{name} is not saved; --no-check would save it as it is")
            raise trial.error
        if fingerprint and trial.fingerprint and not host_keys.matches(fingerprint, trial.fingerprint):
            raise HostKeyUnknown(
                f"node {name} shows another host key than {fingerprint}: {trial.fingerprint}",
                details={"node": name, "fingerprint": trial.fingerprint},
            )
        facts = trial.facts
    if facts is not None:
        console.say(f"{name}: {summary(facts)}")
        for note in missing(name, facts):
            console.warn(note)
    saved = save(draft, change)
    done = "replaced" if name in before.nodes and draft.text else "added"
    if cli.as_json:
        from rbee_ssh.cli import shapes

        console.json(
            {
                done: shapes.listed_node(saved.nodes[name]),
                "inventory": str(saved.path),
                "facts": None if facts is None else shapes.facts(facts),
            }
        )
    else:
        console.line(
            f"{done} {name} in {saved.path}" if done == "replaced" else f"added {name} to {saved.path}"
        )
    if lost := localhost_lost(before, saved):
        console.say(lost)


def node_keys(
    name: str, settings: Mapping[str, Any], home: str, absolute: Callable[[str], str]
) -> dict[str, Any]:
    """The node's table out of the options that were given.

    Args:
        home: its paths are written with a ~, so that the inventory can be taken along.
        absolute: makes a path of the current directory one of everywhere.
    """
    from rbee_ssh.inventory import schema

    given = {**settings, "host": settings["host"] or name}
    keys = {key: given[key] for key in schema.NODE if given[key] not in (None, (), "")}
    if path := keys.get("identity_file"):
        path = path if path.startswith("~") else absolute(path)
        inside = home and path.startswith(f"{home}/")
        keys["identity_file"] = f"~{path.removeprefix(home)}" if inside else path
    if "jump" in keys:
        keys["jump"] = [hop.strip() for word in keys["jump"] for hop in word.split(",")]
    if "env" in keys:
        if not all("=" in word for word in keys["env"]):
            raise UsageInvalid("--env: expected NAME=VALUE")
        keys["env"] = dict(word.split("=", 1) for word in keys["env"])
    return {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}


def checked(draft: InventorySource, text: str, name: str) -> Inventory:
    """What the inventory would say.

    Raises:
        UsageInvalid: the node is not one that an inventory may hold.
        InventoryUntrusted: not in an inventory that was found and not named.
    """
    try:
        return draft.inventory(text)
    except InventoryInvalid as error:
        problems = [f"{fault['key']}: {fault['problem']}" for fault in error.details.get("faults", [])]
        raise UsageInvalid(
            f"{quoted(name)} cannot be a node: {'; '.join(problems) or error.message}",
            details={"faults": error.details.get("faults", [])},
        ) from error


def command_line(name: str, keys: Mapping[str, Any], replace: bool = False) -> str:
    """The command that says the same, for a hint; the values of variables are not repeated."""
    words = ["rbee", "nodes", "add", name]
    for key, value in keys.items():
        option = "--" + {"tags": "tag"}.get(key, key).replace("_", "-")
        if isinstance(value, Mapping):
            value = [f"{variable}=…" for variable in value]
        for one in value if isinstance(value, list) else [value]:
            words += [option, str(one)]
    return shlex.join([*words, *(["--replace"] if replace else [])])


def localhost_lost(before: Inventory, after: Inventory) -> str | None:
    """Without a node of its own an inventory has this machine; with the first one it has that alone."""
    if "localhost" in before.nodes and "localhost" not in after.nodes:
        return (
            "this machine is no longer among the nodes, nor are workers that run on it; to have it there: "
            "rbee nodes add localhost"
        )
    return None
