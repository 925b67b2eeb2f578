"""A package index for nodes without internet: PEP 503 over HTTP, from the host's side of the lab's bridge."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(directory: Path, address: str) -> Iterator[str]:
    """Serve a directory; the URL of it."""
    server = ThreadingHTTPServer((address, 0), partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_index(directory: Path, wheels: Path) -> None:
    """simple/NAME/ for each project that has wheels there; a directory's listing is what PEP 503 asks for."""
    for wheel in wheels.glob("*.whl"):
        project = directory / "simple" / wheel.name.split("-")[0].lower().replace("_", "-")
        project.mkdir(parents=True, exist_ok=True)
        (project / wheel.name).symlink_to(wheel)
