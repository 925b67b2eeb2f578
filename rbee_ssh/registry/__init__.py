"""TinyDB: workers and facts this machine remembers. The node is the truth, so all of it may be deleted."""

from __future__ import annotations

from rbee_ssh.registry.registry import Registry, default_path
from rbee_ssh.registry.worker_entry import ENDED_STATES, WorkerEntry

__all__ = ["ENDED_STATES", "Registry", "WorkerEntry", "default_path"]
