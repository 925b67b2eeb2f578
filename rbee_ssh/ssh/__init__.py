"""The wire: connections, host keys, scripts, HTTP over a channel, the embedded localhost node."""
