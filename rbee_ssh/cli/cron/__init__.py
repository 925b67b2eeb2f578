"""The commands of `rbee cron`."""
