"""`rbee nodes`: the machines of the inventory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import group
from rbee_ssh.cli.run import run_async
from rbee_ssh.cli.text import Column, size, unreachable
from rbee_ssh.errors import HostKeyUnknown, UsageInvalid

if TYPE_CHECKING:
    from rbee_ssh.inventory import Node
    from rbee_ssh.ssh.trust import Fetched
    from rbee_ssh.workers.status import NodeStatus

LIST_COLUMNS = (
    Column("NAME"),
    Column("HOST", keep="start"),
    Column("USER"),
    Column("PORT", right=True),
    Column("JUMP", keep="start"),
    Column("ENGINE"),
    Column("BACKEND"),
    Column("TAGS", keep="start"),
)
STATUS_COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("LATENCY", right=True, spare=3),
    Column("SYSTEM", keep="start", spare=2),
    Column("CPUS", right=True, spare=1),
    Column("RAM FREE", right=True),
    Column("DISK FREE", right=True),
    Column("GPUS", keep="start"),
    Column("ENGINES", keep="start"),
    Column("WORKERS", right=True),
)


@group(short_help="The machines: list them, ask how they are.")
def nodes() -> None:
    """List the machines of the inventory, ask how they are, and trust their host keys."""


@nodes.command("list", short_help="List the nodes of the inventory.")
@pass_cli
def list_(cli: Cli) -> None:
    """List the nodes of the inventory, without connecting to any.

    \b
      rbee nodes list
      rbee --inventory ./lab.toml nodes list --json | jq -r '.nodes[].name'
    """
    found = list(cli.inventory().nodes.values())
    if cli.as_json:
        from rbee_ssh.cli import shapes

        cli.console.json({"nodes": [shapes.listed_node(node) for node in found]})
    else:
        cli.console.table(LIST_COLUMNS, [list_row(node) for node in found])


def list_row(node: Node) -> list[str]:
    """A node's line in `nodes list`."""
    return [
        node.name,
        node.host,
        node.user or "",
        "" if node.port is None else str(node.port),
        " → ".join(node.jump),
        node.engine,
        node.backend,
        ",".join(node.tags),
    ]


@nodes.command(short_help="Ask the nodes what they have.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@pass_cli
def status(cli: Cli, names: tuple[str, ...]) -> None:
    """Connect to these nodes, or to all, and show what they have: memory, disk, GPUs, engines, workers.

    Each is tried once; one that is down is shown with its error, and is no failure of the command.

    \b
      rbee nodes status
      rbee nodes status gpu1 --json | jq '.nodes[0].gpus'
    """
    wanted = cli.nodes(names)
    console = cli.console
    waiting = dict.fromkeys(wanted)

    def on_node(answer: NodeStatus) -> None:
        waiting.pop(answer.name, None)
        console.status(f"waiting for {', '.join(waiting)}" if waiting else "")

    from rbee_ssh.workers.status import node_status

    async def work() -> list[NodeStatus]:
        async with cli.fleet() as fleet:
            return await node_status(fleet, wanted, on_node)

    console.status(f"asking {len(wanted)} nodes" if len(wanted) > 1 else f"asking {wanted[0]}")
    found = run_async(work)
    if cli.as_json:
        from rbee_ssh.cli import shapes

        console.json({"nodes": [shapes.node_status(one) for one in found]})
        return
    console.table(STATUS_COLUMNS, [status_row(one) for one in found])
    for one in found:
        for problem in problems(one):
            console.warn(problem)


def status_row(one: NodeStatus) -> list[str]:
    """A node's line in `nodes status`."""
    facts = one.facts
    latency = "" if one.latency_ms is None else f"{one.latency_ms:.0f} ms"
    if facts is None:
        return [one.name, one.state, latency, *[""] * 7]
    return [
        one.name,
        one.state,
        latency,
        f"{facts.os} {facts.arch}",
        str(facts.cpus or ""),
        _free(facts.ram_free_bytes, facts.ram_total_bytes),
        _free(facts.disk_free_bytes, None),
        ", ".join(gpu.name for gpu in facts.gpus),
        ", ".join(dict.fromkeys(f"{one.name}{' ✗' if one.problem else ''}" for one in facts.engines)),
        str(len(one.workers)),
    ]


def problems(one: NodeStatus) -> list[str]:
    """What a user should know of a node, beside the table: why it is down, what will not work."""
    if one.error is not None:
        return [unreachable(one.name, one.error)]
    if one.facts is None:
        return []
    broken = [
        f"{engine.name} does not run: {engine.problem}" for engine in one.facts.engines if engine.problem
    ]
    return [f"{one.name}: {problem}" for problem in (*broken, *one.facts.problems)]


def _free(free: int | None, total: int | None) -> str:
    """Free bytes of all, in the unit of all: "22.9/23.5 GiB"."""
    if free is None or total is None:
        return "" if free is None else size(free)
    whole, unit = size(total).split(" ")
    return f"{float(whole) * free / max(total, 1):.1f}/{whole} {unit}"


@nodes.command(short_help="Trust a node's host key.")
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
