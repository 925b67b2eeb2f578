"""Words in; text or JSON out. No SSH, no files of a node, no HTTP in here."""
