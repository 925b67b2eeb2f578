"""The inventory room: inventory.toml → Inventory, Node, ModelPreset."""

from __future__ import annotations

from rbee_ssh.inventory.find import load
from rbee_ssh.inventory.parse import parse
from rbee_ssh.inventory.types import (
    BACKENDS,
    ENGINES,
    Inventory,
    ModelPreset,
    Node,
    Timeouts,
    check_keys,
    node,
    select,
)

__all__ = [
    "BACKENDS",
    "ENGINES",
    "Inventory",
    "ModelPreset",
    "Node",
    "Timeouts",
    "check_keys",
    "load",
    "node",
    "parse",
    "select",
]
