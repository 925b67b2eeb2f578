"""Putting an engine on a node: Fabric runs the steps, asyncssh has found and verified the node."""
