"""The commands of `rbee models`."""
