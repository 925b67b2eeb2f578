"""Commands and faults at random, and what must hold all the same. Run by scripts/chaos."""
