"""Where a worker's socket is."""

from __future__ import annotations

from rbee_ssh.workers.start import socket_path


def test_a_socket_is_where_the_node_says_or_in_a_directory_of_its_own() -> None:
    assert socket_path("/home/me/.local/state/rbee/s", "ab") == "/home/me/.local/state/rbee/s/ab.sock"
    assert socket_path("", "ab") == "/tmp/rbee.ab/ab.sock"
