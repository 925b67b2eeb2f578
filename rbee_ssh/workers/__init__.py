"""The heart: find or start a worker, stream from it, and give its memory back when nobody uses it."""
