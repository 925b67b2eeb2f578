"""The text of inventory.toml → Inventory, or every fault in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rbee_ssh.errors import InventoryInvalid
from rbee_ssh.inventory import schema
from rbee_ssh.inventory.readers import (
    Complain,
    Fault,
    Reader,
    Where,
    kind,
    name_problem,
    preset_name_problem,
)
from rbee_ssh.inventory.types import Inventory, ModelPreset, Node, Timeouts
from rbee_ssh.wording import nearest, quoted

LOCALHOST = "localhost"
# tomllib's time grows with the square of a dotted key's parts: an hour for a file of a megabyte.
DOTS = 300
_SUGGESTIONS = 100  # faults that get a "did you mean": finding it is slow, and nobody reads on

_PLACES: Mapping[str, Mapping[str, Reader]] = {
    "[defaults]": schema.DEFAULTS,
    "[nodes.NAME]": schema.NODE,
    "[models.NAME]": schema.MODEL,
    "[timeouts]": schema.TIMEOUTS,
}


def parse(text: str, path: Path | None, *, file: str | None = None, home: Path | None = None) -> Inventory:
    """Read an inventory.

    Args:
        path: the file's absolute path, which relative paths in it are relative to; None for the built-in one.
        file: how errors call it; default: `path`.
        home: what `~` stands for in paths of this machine; None makes a fault of it.

    Raises:
        InventoryInvalid: not TOML, or not an inventory; names every fault.
    """
    file = file or str(path or "the built-in inventory")
    return build(load_toml(text, file), text, path, file=file, home=home)


def load_toml(text: str, file: str) -> dict[str, Any]:
    """The text as TOML, whatever it says.

    Args:
        file: how errors call it.

    Raises:
        InventoryInvalid: a syntax error, with its line.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS:
            raise no_inventory(file, f"expected at most {DOTS} dots on a line", number)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$", str(error))
        what = str(error)[: place.start()] if place else str(error)
        end = text.rstrip("\n").count("\n") + 1
        raise no_inventory(
            file, f"not valid TOML: {what}", int(place[1]) if place and place[1] else end
        ) from None
    except RecursionError:
        raise no_inventory(file, "expected no nesting hundreds of levels deep") from None
    except ValueError:
        # Python refuses to read decimal integers of more than 4,300 digits; tomllib lets that through.
        raise no_inventory(file, "expected no number of thousands of digits") from None


def no_inventory(file: str, problem: str, line: int | None = None) -> InventoryInvalid:
    """The error for a file of which nothing can be understood."""
    from rbee_ssh.inventory.faults import invalid

    return invalid(file, [Fault((), problem, line)])


def build(
    document: Mapping[str, Any], text: str, path: Path | None, *, file: str, home: Path | None
) -> Inventory:
    """The second half of `parse`: what TOML said → Inventory.

    Raises:
        InventoryInvalid: names every fault.
    """
    reading = _Reading(path.parent if path else Path(), home)
    sections = reading.sections(document)
    defaults = reading.table(sections["defaults"], schema.DEFAULTS, ("defaults",))
    ours = {key: defaults.pop(key) for key in ("model", "idle_timeout") if key in defaults}
    # An inventory of presets or timeouts alone still has this machine.
    tables = sections["nodes"] or {LOCALHOST: {"host": LOCALHOST}}
    nodes = {
        name: reading.node(name, table, defaults, host_needed="host" not in sections["defaults"])
        for name, table in reading.named(tables, "nodes", name_problem)
    }
    models = {
        name: reading.preset(name, table)
        for name, table in reading.named(sections["models"], "models", preset_name_problem)
    }
    timeouts = Timeouts(**reading.table(sections["timeouts"], schema.TIMEOUTS, ("timeouts",)))
    reading.check_jumps(nodes, sections["nodes"])
    if reading.faults:
        from rbee_ssh.inventory.faults import invalid
        from rbee_ssh.inventory.lines import lines

        where = lines(text)
        raise invalid(file, [_placed(fault, where) for fault in reading.faults])
    return Inventory(nodes=nodes, models=models, timeouts=timeouts, path=path, **ours)


def _placed(fault: Fault, where: Mapping[Where, int]) -> Fault:
    """The fault with its line, or the line of the innermost thing around it that has one."""
    lines = (where.get(fault.where[:length]) for length in range(len(fault.where), 0, -1))
    return replace(fault, line=next((line for line in lines if line is not None), None))


class _Reading:
    """One pass over a document; what is wrong is collected, and what is right is returned."""

    def __init__(self, base: Path, home: Path | None) -> None:
        self.base = base
        self.home = home
        self.faults: list[Fault] = []

    def complain(self, where: Where) -> Complain:
        return lambda problem, *below: self.faults.append(Fault((*where, *below), problem))

    def sections(self, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = {name: {} for name in schema.SECTIONS}
        for name, content in document.items():
            if name not in sections:
                self.faults.append(Fault((name,), self.unknown(name, schema.SECTIONS, "")))
            elif not isinstance(content, dict):
                self.faults.append(Fault((name,), f"expected a section, got {kind(content)}"))
            else:
                sections[name] = content
        return sections

    def named(
        self, tables: Mapping[str, Any], section: str, problem: Callable[[str], str | None]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, table in tables.items():
            if wrong := problem(name):
                self.faults.append(Fault((section, name), wrong))
            if isinstance(table, dict):
                yield name, table
            else:
                self.faults.append(
                    Fault((section, name), f"expected a table [{section}.NAME], got {kind(table)}")
                )

    def table(self, table: Mapping[str, Any], readers: Mapping[str, Reader], where: Where) -> dict[str, Any]:
        """The values of the keys that are known and right."""
        values: dict[str, Any] = {}
        for key, content in table.items():
            before = len(self.faults)
            if key not in readers:
                self.faults.append(Fault((*where, key), self.unknown(key, readers, str(where[0]))))
                continue
            value = readers[key](content, self.complain((*where, key)))
            if key == "identity_file" and len(self.faults) == before:
                value = self.local_path(value, (*where, key))
            if len(self.faults) == before:
                values[key] = value
        return values

    def unknown(self, key: str, known: Mapping[str, Reader] | tuple[str, ...], section: str) -> str:
        what = "unknown key" if section else "unknown section"
        if len(self.faults) >= _SUGGESTIONS:
            return what
        elsewhere = [place for place, readers in _PLACES.items() if key in readers]
        if elsewhere:
            return f"{what} here: it belongs in {' or '.join(elsewhere)}"
        near = nearest(key, known)
        return f"{what}; did you mean {quoted(near)}?" if near else f"{what}; known are {', '.join(known)}"

    def local_path(self, text: str, where: Where) -> Path | None:
        if not text.startswith("~"):
            return self.base / text
        if not text.startswith("~/") or self.home is None:
            self.faults.append(Fault(where, "expected a path without '~', or HOME set and the path as ~/…"))
            return None
        return self.home / text[2:]

    def node(
        self, name: str, table: Mapping[str, Any], defaults: Mapping[str, Any], *, host_needed: bool
    ) -> Node:
        own = self.table(table, schema.NODE, ("nodes", name))
        if host_needed and "host" not in table:
            self.faults.append(
                Fault(("nodes", name), "`host` is missing: an address or a Host of ssh_config")
            )
        inherited = dict(defaults)
        if own.get("host", inherited.get("host")) == LOCALHOST and not any(
            key in table for key in schema.WAY
        ):
            # The defaults say how to reach machines; this one is served inside the process.
            inherited = {key: value for key, value in inherited.items() if key not in schema.WAY}
        env = {**inherited.get("env", {}), **own.get("env", {})}
        values = {"host": "", **inherited, **own, "env": tuple(env.items())}
        return Node(name=name, **values)

    def preset(self, name: str, table: Mapping[str, Any]) -> ModelPreset:
        values = self.table(table, schema.MODEL, ("models", name))
        if "source" not in table:
            self.faults.append(
                Fault(("models", name), '`source` is missing: a model reference such as "hf:org/repo:Q4_K_M"')
            )
        return ModelPreset(name=name, **{"source": "", **values})

    def check_jumps(self, nodes: Mapping[str, Node], tables: Mapping[str, Any]) -> None:
        for circle in circles(nodes):
            path = " → ".join(circle)
            if "jump" in tables.get(circle[0], {}):
                self.faults.append(Fault(("nodes", circle[0], "jump"), f"jumps through itself: {path}"))
            else:
                problem = f"jumps through itself: {path}; `jump = []` in [nodes.{circle[0]}] ends it"
                self.faults.append(Fault(("defaults", "jump"), problem))


def circles(nodes: Mapping[str, Node]) -> list[tuple[str, ...]]:
    """Every way through jump hosts that comes back to its start, as ("a", "b", "a"); each once.

    A hop is followed where it is a node's name; ssh_config's aliases are not looked into. The hops of one
    list are opened each through the one before it, so only the first one's own `jump` is ever used.
    """
    circles_found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in nodes:
        # A stack of our own: a chain of thousands of nodes must not end in Python's recursion limit.
        path: dict[str, None] = {}
        ahead = [iter((start,))]
        while ahead:
            name = next(ahead[-1], None)
            if name is None:
                ahead.pop()
                if path:
                    done.add(path.popitem()[0])
            elif name in path:
                ring = list(path)
                circles_found.append((*ring[ring.index(name) :], name))
            elif name in nodes and name not in done:
                path[name] = None
                jump = nodes[name].jump
                own = (hop for hop in jump[1:] if hop == name)
                ahead.append(iter(dict.fromkeys([*jump[:1], *own])))
    return circles_found
