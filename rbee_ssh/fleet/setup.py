"""`rbee nodes setup`: an engine on each of some nodes, all at once. What fails on one stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rbee_ssh import inventory as inventories
from rbee_ssh.engines import EngineFound
from rbee_ssh.errors import RbeeError, SetupFailed
from rbee_ssh.inventory import Node
from rbee_ssh.models.fetch import GET
from rbee_ssh.node.facts import Facts
from rbee_ssh.node.probe import probe
from rbee_ssh.node.remedies import ssh_words_of
from rbee_ssh.node.scripts import source
from rbee_ssh.provision.plan import ArchivePlan, Machine, Plan, SetupRequest, matches, plan
from rbee_ssh.ssh import script
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.pool import ConnectionPool

# Each holds two connections and a thread.
MAX_AT_ONCE = 32
_OURS = "/.local/share/rbee/"


@dataclass(frozen=True, slots=True)
class SetUp:
    """What became of one node: an engine that runs there, or an error."""

    node: str
    engine: EngineFound | None = None
    changed: bool = False  # False: it was there before
    error: RbeeError | None = None


async def setup_nodes(
    pool: ConnectionPool, names: Sequence[str], asked: SetupRequest, on_node: Callable[[SetUp], None]
) -> list[SetUp]:
    """Set up these nodes; `on_node` gets each result as it comes."""
    slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def setup(name: str) -> SetUp:
        prefix = f"{name}: " if len(names) > 1 else ""
        try:
            async with slots:
                done = await _setup(pool, inventories.node(pool.inventory, name), asked, prefix)
        except RbeeError as error:
            done = SetUp(name, error=error)
        on_node(done)
        return done

    return list(await asyncio.gather(*(setup(name) for name in names)))


async def _setup(pool: ConnectionPool, node: Node, asked: SetupRequest, prefix: str) -> SetUp:
    from rbee_ssh.provision import recipes, tasks
    from rbee_ssh.provision.session import session

    base = pool.inventory.path.parent if pool.inventory.path else Path()
    own_recipes = recipes.load(node.name, node.setup, base)
    connection = await pool.connect(node.name)
    words = "" if node.embedded else ssh_words_of(node, pool.inventory.nodes)
    async with session(node, connection, pool.wire, pool.reporter, ssh=words, prefix=prefix) as opened:
        for recipe in own_recipes:
            await opened.run(recipes.run, recipe)
        facts = (await probe(connection, node, backend=asked.backend or node.backend)).facts
        todo = plan(node, asked, await _machine(connection, facts))
        engine = _elsewhere(facts, asked, todo)
        changed = False
        if engine is None:
            if isinstance(todo, ArchivePlan):
                changed = await opened.run(tasks.install_archive, todo, source(GET))
            else:
                changed = await opened.run(tasks.install_package, todo)
            engine = await _installed(connection, node, asked, todo)
    text = f"{engine.name} {engine.version} ({engine.path})"
    pool.reporter.say(f"{prefix}{text} runs" if changed else f"{prefix}already there: {text}")
    return SetUp(node.name, engine, changed)


async def _machine(connection: Connection, facts: Facts) -> Machine:
    gpus = tuple((gpu.name, gpu.backend) for gpu in facts.gpus)
    rocm = None
    if any(backend == "rocm" for _, backend in gpus):
        answer = await script.run(connection, "head -n 1 /opt/rocm/.info/version 2>/dev/null")
        rocm = answer.stdout.strip()[:20] or None
    broken = next((problem for problem in facts.problems if "-smi" in problem), None)
    return Machine(facts.os, gpus, rocm, broken)


def _elsewhere(facts: Facts, asked: SetupRequest, todo: Plan) -> EngineFound | None:
    """An engine that does, in a place that is not setup's own: that one is not looked at or touched."""
    if isinstance(todo, ArchivePlan):
        return None
    for engine in facts.engines:
        serves = engine.problem is None and matches(engine.backends, todo.pattern)
        if engine.name == asked.engine and serves and _OURS not in engine.path:
            return engine
    return None


async def _installed(connection: Connection, node: Node, asked: SetupRequest, todo: Plan) -> EngineFound:
    """The new engine, as `infer` will find it.

    Raises:
        SetupFailed: it is not found, or does not run.
    """
    facts = (await probe(connection, node, engine=asked.engine)).facts
    place = f"/engines/{todo.directory}/" if isinstance(todo, ArchivePlan) else ""
    ours = [e for e in facts.engines if e.name == asked.engine and _OURS in e.path and place in e.path]
    running = next((engine for engine in ours if engine.problem is None), None)
    if running is not None:
        return running
    why = f"{ours[0].path}: {ours[0].problem}" if ours else f"looked for {'; '.join(facts.looked)}"
    raise SetupFailed(
        f"{node.name}: {asked.engine} was installed, and is not found as an engine that runs: {why}",
        hint=f"rbee --verbose nodes status {node.name}",
        details={"node": node.name, "step": "looking for it", "looked": list(facts.looked)},
    )
