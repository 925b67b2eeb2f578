"""What nodes without internet install from: an HTTP server on the host's side of the lab's bridge."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# What llama-server is linked with goes by these names; the wheel holds each library three times.
_NEEDED = ("llama-server", "lib*.so.0", "libllama-server-impl.so", "libvulkan.so.1")


class NodeStore:
    """Files under an address. `simple/` is an index of packages (PEP 503), for pip and uv.

    Attributes:
        url: of the directory.
        gate: as long as it is clear, whoever asks for a wheel waits.
        waiting: set when somebody does.
    """

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.gate, self.waiting = threading.Event(), threading.Event()
        self.gate.set()
        contents = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                if self.path.endswith(".whl") and not contents.gate.is_set():
                    contents.waiting.set()
                    contents.gate.wait()
                super().do_GET()

            def copyfile(self, source: Any, outputfile: Any) -> None:
                try:
                    super().copyfile(source, outputfile)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self._server = ThreadingHTTPServer((address, 0), partial(Handler, directory=str(directory)))
        self.host = f"{address}:{self._server.server_port}"
        self.url = f"http://{self.host}"
        self.index = f"{self.url}/simple"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def trust(self) -> dict[str, str]:
        """Files of a home whose pip may use an index without TLS."""
        return {".config/pip/pip.conf": f"[global]\ntrusted-host = {self.host}\n"}


@contextmanager
def contents(directory: Path, wheels: Path, address: str) -> Iterator[NodeStore]:
    """A shelf with these wheels; a directory's listing is what PEP 503 asks for."""
    for wheel in wheels.glob("*.whl"):
        project = directory / "simple" / wheel.name.split("-")[0].lower().replace("_", "-")
        project.mkdir(parents=True, exist_ok=True)
        (project / wheel.name).symlink_to(wheel)
    opened = NodeStore(directory, address)
    try:
        yield opened
    finally:
        opened.close()


def pack(llama_server: Path, archive: Path) -> None:
    """A release archive as llama.cpp has them: build/bin with the program, libraries and links to them.

    Args:
        llama_server: the script of the tests that sets LD_LIBRARY_PATH and starts the real one.
    """
    real = Path(llama_server.read_text().split("exec ")[1].split('"')[1])
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for pattern in _NEEDED:
            for file in real.parent.glob(pattern):
                tar.add(file, f"build/bin/{file.name}")
        link = tarfile.TarInfo("build/bin/libllama.so")
        link.type, link.linkname = tarfile.SYMTYPE, "libllama.so.0"
        tar.addfile(link)
