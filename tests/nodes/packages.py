"""What nodes without internet install from: an HTTP server on the host's side of the lab's bridge."""

from __future__ import annotations

import ssl
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hubkit.certificate import make_certificate

# What llama-server is linked with goes by these names; the wheel holds each library three times.
_NEEDED = ("llama-server", "lib*.so.0", "libllama-server-impl.so", "libvulkan.so.1")


class NodeStore:
    """Files under an address. `simple/` is an index of packages (PEP 503), for pip and uv.

    Attributes:
        url: of the directory, over http.
        index: over https, for who has the files of `trust`.
        gate: as long as it is clear, whoever asks for a wheel waits.
        waiting: set when somebody does.
        asked: over https or not, and for which path.
    """

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.gate, self.waiting = threading.Event(), threading.Event()
        self.gate.set()
        self.asked: list[tuple[bool, str]] = []
        contents = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                secure = isinstance(self.connection, ssl.SSLSocket)
                contents.asked.append((secure, self.path))
                if self.path.startswith("/away/"):
                    self.send_response(302)
                    self.send_header("Location", f"{contents.url}/simple/{self.path.removeprefix('/away/')}")
                    self.end_headers()
                    return
                if self.path.endswith(".whl") and not contents.gate.is_set():
                    contents.waiting.set()
                    contents.gate.wait()
                super().do_GET()

            def copyfile(self, source: Any, outputfile: Any) -> None:
                try:
                    super().copyfile(source, outputfile)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        serve = partial(Handler, directory=str(directory))
        self._servers = [ThreadingHTTPServer((address, 0), serve) for _ in range(2)]
        plain, secure = self._servers
        self._certificate = directory.with_name(directory.name + ".pem")
        make_certificate(self._certificate, address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        # The handshake in the thread of the request: who does not come to an end holds up nobody.
        secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"{address}:{secure.server_port}"
        self.url = f"http://{address}:{plain.server_port}"
        self.index = f"https://{self.host}/simple"
        self.downward = f"https://{self.host}/away"  # leads to the same over http
        self._threads = [threading.Thread(target=one.serve_forever, daemon=True) for one in self._servers]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self.gate.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def trust(self) -> dict[str, str]:
        """Files of a home whose pip and uv believe in the index."""
        return {
            "ca.pem": self._certificate.read_text(),
            ".config/pip/pip.conf": "[global]\ncert = ~/ca.pem\n",
            ".config/uv/uv.toml": f'allow-insecure-host = ["{self.host}"]\n',
        }


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
