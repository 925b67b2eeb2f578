"""What every command is handed: console, inventory, registry and connections, each made when first needed.

`rbee --version` makes none of them, and imports none of them either.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from rbee_ssh.cli.console import Console
    from rbee_ssh.inventory import Inventory
    from rbee_ssh.inventory.find import InventorySource
    from rbee_ssh.registry import Registry
    from rbee_ssh.ssh.pool import ConnectionPool

T = TypeVar("T")


class Cli:
    """The global options of one call of `rbee`, and what hangs on them."""

    def __init__(self) -> None:
        self.inventory_path: str | None = None
        self.as_json = False
        self.events = False
        self.quiet = False
        self.verbose = False
        self.debug = False
        self._draft: InventorySource | None = None
        self._inventory: Inventory | None = None

    @cached_property
    def console(self) -> Console:
        """Made at first use, when all options have been read."""
        from rbee_ssh.cli.console import Console

        return Console(
            as_json=self.as_json,
            events=self.events,
            quiet=self.quiet,
            verbose=self.verbose or self.debug,
            inventory=self.inventory_path,
        )

    def inventory(self) -> Inventory:
        """The inventory, read once.

        Raises:
            InventoryNotFound, InventoryInvalid, InventoryUntrusted: as rbee_ssh.inventory.load.
        """
        if self._inventory is None:
            from rbee_ssh.inventory.find import understood

            self._inventory = understood(self.draft())
        return self._inventory

    def draft(self) -> InventorySource:
        """The inventory's file with its text, read once. There need not be one, also where one is named.

        Raises:
            InventoryInvalid, InventoryUntrusted: it cannot be read, is no text, or is not the user's own.
        """
        if self._draft is None:
            from rbee_ssh.inventory.find import look

            named = None if self.inventory_path is None else Path(self.inventory_path)
            self._draft = look(named, environ=os.environ, cwd=self.cwd(), warn=self.console.warn)
        return self._draft

    def cwd(self) -> Path:
        """The current directory; the root where that was removed: nothing is found there."""
        try:
            return Path.cwd()
        except OSError:
            return Path("/")

    def registry(self) -> Registry:
        from rbee_ssh.registry import Registry, default_path

        return Registry(
            default_path(os.environ),
            reporter=self.console,
            lock_timeout=self.inventory().timeouts.registry_lock,
            command=click.get_current_context().command_path,
        )

    def run(
        self, work: Callable[[ConnectionPool], Awaitable[T]], *, stream: bool = False, resumes: bool = False
    ) -> T:
        """What `work` returns, which is given the nodes, ready to be connected to; see run_async."""
        from rbee_ssh.cli.event_loop import run_async

        async def connected() -> T:
            from rbee_ssh.ssh.pool import ConnectionPool

            async with ConnectionPool(self.inventory(), self.registry(), self.console) as pool:
                return await work(pool)

        return run_async(connected, stream=stream, resumes=resumes)

    def nodes(self, names: tuple[str, ...], tags: tuple[str, ...] = ()) -> list[str]:
        """These nodes and those that carry one of these tags, each once; all of the inventory when neither
        is given.

        Raises:
            NodeUnknown: a name or a tag that the inventory does not have.
        """
        from rbee_ssh.inventory import select

        return [node.name for node in select(self.inventory(), names, tags)]


pass_cli = click.make_pass_decorator(Cli)
