"""One question to many nodes: status, watch, check, run, setup, candidates."""
