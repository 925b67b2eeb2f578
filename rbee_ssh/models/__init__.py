"""The models room: where a model comes from, and the file on the node."""
