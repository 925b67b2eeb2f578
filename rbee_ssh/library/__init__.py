"""Stored models over many nodes: pull, push, replicate, list, verify, remove."""
