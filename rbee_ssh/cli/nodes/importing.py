"""`rbee nodes import`: hosts of ~/.ssh/config into the inventory."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.nodes.add import localhost_lost
from rbee_ssh.cli.nodes.candidates import missing, summary, tried
from rbee_ssh.cli.options import command
from rbee_ssh.cli.text import Column
from rbee_ssh.errors import UsageInvalid
from rbee_ssh.wording import listed, quoted

if TYPE_CHECKING:
    from rbee_ssh.cli.console import Console
    from rbee_ssh.ssh.config import Hosts

_COLUMNS = (Column("", right=True), Column("HOST"), Column("WHERE", keep="start"))


@command("import", short_help="Add hosts of ~/.ssh/config to the inventory.")
@click.argument("hosts", metavar="[HOST]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All hosts that ~/.ssh/config has by name.")
@click.option("--no-check", is_flag=True, help="Save them without connecting.")
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    metavar="SHA256:…",
    help="An unknown host key may have this fingerprint; then nothing is asked. May be repeated.",
)
@pass_cli
def import_(
    cli: Cli, hosts: tuple[str, ...], all_: bool, no_check: bool, fingerprints: tuple[str, ...]
) -> None:
    """Add hosts of ~/.ssh/config to the inventory: those that are named, all, or those picked from a list.

    A node gets `host = "ALIAS"` and nothing else: ssh_config goes on to say where it is and who logs in.
    Files that it includes are looked into; hosts with a wildcard are not offered, but can be named.

    Each is connected to first, as with `rbee nodes add`. Those that do not work are told, and the others are
    saved; the exit status is 1 then.

    \b
      rbee nodes import
      rbee nodes import gpu1 gpu2
      rbee nodes import --all --no-check
    """
    from rbee_ssh.inventory import edit
    from rbee_ssh.inventory.save import save
    from rbee_ssh.ssh.config import USERS, users_hosts

    console = cli.console
    if hosts and all_:
        raise UsageInvalid("expected hosts or --all, not both")
    draft = cli.draft()
    before = draft.inventory(draft.text or "")
    there = {node.host: node.name for node in before.nodes.values()}
    known = users_hosts()
    offered = [alias for alias in known.aliases if alias not in there]
    if hosts:
        check_known(hosts, known)
        for alias in [alias for alias in dict.fromkeys(hosts) if alias in there]:
            console.say(f"{alias} is node {there[alias]} already")
        chosen = [alias for alias in dict.fromkeys(hosts) if alias not in there]
    else:
        chosen = offered if all_ or not offered else _picked(console, offered)
        if not offered:
            console.say(f"nothing to import: {USERS} names no host that is not a node already")
    names = node_names(chosen, before.nodes)

    def change(text: str, keep: Collection[str] = names) -> str:
        for name, alias in names.items():
            if name in keep:
                text = edit.with_node(text, name, {"host": alias})
        return text

    planned = draft.inventory(change(draft.text or ""))
    trials = {} if no_check else tried(cli, planned, list(names), fingerprints, "rbee nodes import")
    failed = {name: trial.error for name, trial in trials.items() if trial.error is not None}
    works = [name for name in names if name not in failed]
    saved = save(draft, lambda text: change(text, works)) if works else before
    for name in works:
        facts = trials[name].facts if name in trials else None
        if not cli.as_json:
            console.line(f"added {name}" + ("" if facts is None else f": {summary(facts)}"))
        for note in missing(name, facts) if facts is not None else ():
            console.warn(note)
    console.unreachable(failed, failed=True)
    if cli.as_json:
        from rbee_ssh.cli import shapes

        added = [shapes.listed_node(saved.nodes[name]) for name in works]
        where = None if saved.path is None else str(saved.path)
        console.json({"added": added, "failed": shapes.unreachable(failed), "inventory": where})
    elif works:
        console.say(f"in {saved.path}")
    if works and (lost := localhost_lost(before, saved)):
        console.say(lost)
    if failed:
        click.get_current_context().exit(1)


def check_known(hosts: Sequence[str], known: Hosts) -> None:
    """That ssh_config says something of each host.

    Raises:
        UsageInvalid: not of one of them; names the nearest.
    """
    from rbee_ssh.ssh.config import unknown

    for alias in hosts:
        if not known.knows(alias):
            raise UsageInvalid(
                unknown(alias, known),
                hint=f"rbee nodes add {alias} --host ADDRESS",
                details={"host": alias, "known": list(known.aliases)},
            )


def _picked(console: Console, offered: Sequence[str]) -> list[str]:
    from rbee_ssh.ssh.config import where

    rows = [[str(number), alias, where(alias)] for number, alias in enumerate(offered, 1)]
    question = "Which? Numbers (1 3-5), names, or all:"
    if console.can_ask:
        console.aside(_COLUMNS, rows)
    while (answer := console.question(question)) is not None:
        try:
            return selection(answer, offered)
        except ValueError as error:
            console.say(str(error))
    raise UsageInvalid(
        f"there is no terminal to ask which hosts: there are {listed(offered)}",
        hint=f"rbee nodes import {offered[0]}   # or --all",
        details={"hosts": list(offered)},
    )


def selection(answer: str, offered: Sequence[str]) -> list[str]:
    """The hosts that an answer picks: numbers from 1, ranges of them, names, or "all".

    Raises:
        ValueError: a word of it is none of these.
    """
    picked: dict[str, None] = {}
    for word in re.split(r"[,\s]+", answer.strip()):
        found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", word)
        if word in offered:
            picked[word] = None
        elif word.lower() == "all":
            picked |= dict.fromkeys(offered)
        elif found:
            first, last = int(found[1]), int(found[2] or found[1])
            if not 1 <= first <= last <= len(offered):
                raise ValueError(f"{word}: there are 1 to {len(offered)}")
            picked |= dict.fromkeys(offered[first - 1 : last])
        elif word:
            raise ValueError(f"{quoted(word)} is none of them")
    return list(picked)


def node_names(aliases: Sequence[str], taken: Mapping[str, object]) -> dict[str, str]:
    """A node's name for each alias: the alias, made a name where it is none, and unlike those taken."""
    from rbee_ssh.inventory.readers import name_problem

    names: dict[str, str] = {}
    for alias in aliases:
        kept = "".join(one if name_problem(f"a{one}") is None else "-" for one in alias)
        name = re.sub(r"^[.-]+", "", kept)
        while len(name.encode()) > 90:
            name = name[:-1]
        name = name if name_problem(name) is None else f"n{name}"
        number = 1
        while (unique := name if number == 1 else f"{name}-{number}") in names or unique in taken:
            number += 1
        names[unique] = alias
    return names
