"""Putting an engine on a node: Fabric runs the steps, over a way that asyncssh has found and verified."""
