"""The commands of `rbee nodes`."""
