"""Real OpenSSH nodes on one machine, for tests.

    lab.node("a", shell="/bin/dash")    → a machine of its own: address, users, processes, /tmp, boot id
    lab.control("desk")                 → an empty home with a key, and `rbee` run from it

As root a node is a set of Linux namespaces (network, processes, mounts, host name) on a private bridge, so
nothing of the host is changed but one bridge, and a node's end takes everything in it along. Without root
a node is an sshd on a port of 127.0.0.1 under one's own account: enough to log in, run a worker and stream
from it; a test that asks for more (a shell of its own, a cut cable, a reboot) is skipped with a line that
says so.
"""

from nodekit.control import Control
from nodekit.lab import NodeLab
from nodekit.node import LabNode, NodeProcess

__all__ = ["Control", "LabNode", "NodeLab", "NodeProcess"]
