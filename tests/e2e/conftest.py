"""Nodes that e2e tests share: three machines with different users, host keys and login shells."""

from __future__ import annotations

import pytest

from nodekit import LabNode, NodeLab

BANNER = "echo '*** Welcome. All your logins are logged. ***'\n"


@pytest.fixture(scope="session")
def dash_node(lab: NodeLab) -> LabNode:
    return lab.node("dash", shell="/bin/dash")


@pytest.fixture(scope="session")
def bash_node(lab: NodeLab) -> LabNode:
    """Its .bashrc prints a banner at every login, terminal or not."""
    return lab.node("bash", shell="/bin/bash", rc=BANNER)


@pytest.fixture(scope="session")
def zsh_node(lab: NodeLab) -> LabNode:
    return lab.node("zsh", shell="/bin/zsh")


@pytest.fixture(scope="session")
def three_nodes(dash_node: LabNode, bash_node: LabNode, zsh_node: LabNode) -> list[LabNode]:
    return [dash_node, bash_node, zsh_node]
