"""One node seen from here: its facts, and the processes that live on it without us."""
