"""TinyDB: workers and facts this machine remembers. The node is the truth, so all of it may be deleted."""

from __future__ import annotations

from rbee_ssh.registry.entry import ENDED_STATES, WorkerEntry
from rbee_ssh.registry.registry import Registry, default_path

__all__ = ["ENDED_STATES", "Registry", "WorkerEntry", "default_path"]
