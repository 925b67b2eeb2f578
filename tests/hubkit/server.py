"""Two HTTP servers: the hub, and the "CDN" on another port that its signed links lead to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import socket
import ssl
import struct
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass(frozen=True)
class Fault:
    """What happens to one answer of the CDN, after `after` bytes of it.

    what: "cut" (closed), "reset", "stall" (until the hub is closed), "pause" (until `go_on` is set), "expire"
    (cut, and every link so far is void), "wrong" (all bytes come, one of them changed), "500".
    """

    what: str
    after: int = 0


@dataclass
class Repository:
    files: dict[str, bytes]
    token: str | None = None  # only this one opens it
    gated: bool = False
    lfs: bool = True


@dataclass
class Asked:
    """One request, as it came in."""

    where: str  # "hub" or "cdn"
    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


@dataclass
class Hub:
    """Listens on `address` until it is closed; a context manager."""

    address: str = "127.0.0.1"
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)  # one for each answer of the CDN, then none
    asked: list[Asked] = field(default_factory=list)
    moved: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository → status, endpoint
    rate: int | None = None  # bytes a second of each answer
    tls: Path | None = None  # certificate and key, for the CDN

    def __post_init__(self) -> None:
        self.links: set[str] = set()
        self.closed = threading.Event()
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self._servers = [self._serve(_HubHandler), self._serve(_CdnHandler)]
        self.endpoint, self.cdn = (
            f"http{'s' * secure}://{self.address}:{server.server_address[1]}"
            for (server, _), secure in zip(self._servers, (False, self.tls is not None), strict=True)
        )

    def _serve(self, handler: type[_Handler]) -> tuple[ThreadingHTTPServer, threading.Thread]:
        hub = self

        class Bound(handler):  # type: ignore[valid-type, misc]
            owner = hub

        server = _Server((self.address, 0), Bound)
        if self.tls is not None and handler is _CdnHandler:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        return server, thread

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.go_on.set()
        for server, thread in self._servers:
            server.shutdown()
            server.server_close()
            thread.join()

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        self.repositories[name] = Repository(files, **options)
        return self.repositories[name]

    def link(self, content: bytes) -> str:
        """A signed link to a file of the CDN."""
        signature = secrets.token_hex(12)
        self.links.add(signature)
        return (
            f"{self.cdn}/{hashlib.sha256(content).hexdigest()}?X-Amz-Expires=3600&X-Amz-Signature={signature}"
        )

    def content(self, sha256: str) -> bytes | None:
        every = (content for repo in self.repositories.values() for content in repo.files.values())
        return next((one for one in every if hashlib.sha256(one).hexdigest() == sha256), None)

    def named(self, name: str) -> bytes | None:
        every = (files for repo in self.repositories.values() for files in repo.files.items())
        return next((content for path, content in every if path == name), None)

    @property
    def fetches(self) -> list[Asked]:
        return [one for one in self.asked if one.where == "cdn"]

    @property
    def bytes_sent(self) -> int:
        """By the CDN."""
        return sum(one.sent for one in self.fetches)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: Hub
    where: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.note = Asked(
            self.where, self.command, self.path, {k.lower(): v for k, v in self.headers.items()}
        )
        with self.owner.lock:
            self.owner.asked.append(self.note)
        with contextlib.suppress(ConnectionError):
            self.answer()

    def answer(self) -> None:
        raise NotImplementedError

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HubHandler(_Handler):
    where = "hub"

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if api := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(api[1], api[2])
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(found[1], found[2], found[3])
        if plain := re.fullmatch(r"/plain/([^/]+)", path):
            return self.reply(200, body=self.owner.named(plain[1]) or b"")
        return self.reply(404)

    def _refused(self, repo: Repository | None, *, gate: bool) -> bool:
        """As the hub: 401 to strangers also where there is nothing."""
        told = self.headers.get("Authorization", "")
        if repo is None:
            self.reply(404 if told else 401, {"X-Error-Code": "RepoNotFound"} if told else {})
        elif repo.gated and not gate:
            return False
        elif repo.token and told != f"Bearer {repo.token}":
            code = "GatedRepo" if repo.gated else "RepoNotFound"
            self.reply(403 if told else 401, {"X-Error-Code": code})
        else:
            return False
        return True

    def _info(self, name: str, revision: str | None) -> None:
        if moved := self.owner.moved.get(name):
            return self.reply(moved[0], {"Location": moved[1] + self.path})
        repo = self.owner.repositories.get(name)
        if self._refused(repo, gate=False):
            return None
        assert repo is not None
        if revision not in (None, "main", COMMIT):
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for path, content in repo.files.items():
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(
                {
                    "rfilename": path,
                    "size": len(content),
                    "blobId": hashlib.sha1(content).hexdigest(),
                    **({"lfs": lfs} if repo.lfs else {}),
                }
            )
        body = {
            "id": name,
            "sha": COMMIT,
            "private": bool(repo.token) and not repo.gated,
            "gated": "manual" if repo.gated else False,
            "siblings": siblings,
        }
        return self.reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.owner.repositories.get(name)
        if self._refused(repo, gate=True):
            return None
        assert repo is not None
        content = repo.files.get(path)
        if content is None:
            return self.reply(404, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if repo.lfs:
            linked = {
                "Location": self.owner.link(content),
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            }
            return self.reply(302, headers | linked)
        return self.reply(200, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content)


class _CdnHandler(_Handler):
    where = "cdn"

    def answer(self) -> None:
        hub = self.owner
        parts = urlsplit(self.path)
        if parts.path == "/plain/down.gguf":
            return self.reply(302, {"Location": f"{hub.endpoint}/plain/tiny.gguf"})
        if parts.path.startswith("/plain/"):
            content = hub.named(parts.path.rpartition("/")[2])
        else:
            content = hub.content(parts.path[1:])
            signature = parse_qs(parts.query).get("X-Amz-Signature", [""])[0]
            if signature not in hub.links or "authorization" in self.note.headers:
                return self.reply(403)
        if content is None:
            return self.reply(404)
        with hub.lock:
            fault = hub.faults.pop(0) if hub.faults and self.command == "GET" else Fault("")
        if fault.what == "500":
            return self.reply(500)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        if begin >= len(content):
            return self.reply(416, {"Content-Range": f"bytes */{len(content)}"})
        rest = content[begin : int(asked[2]) + 1 if asked and asked[2] else None]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(rest) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self._send(rest, fault)
        return None

    def _write(self, piece: bytes) -> None:
        self.wfile.write(piece)
        self.note.sent += len(piece)

    def _send(self, data: bytes, fault: Fault) -> None:
        hub = self.owner
        if fault.what == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        elif fault.what not in ("", "pause"):
            data = data[: fault.after]
        step = hub.rate // 20 if hub.rate else 1 << 20
        if fault.what == "pause":
            self._write(data[: fault.after])
            hub.go_on.wait()
            data = data[fault.after :]
        for at in range(0, len(data), step):
            self._write(data[at : at + step])
            if hub.rate and hub.closed.wait(0.05):
                break
        if fault.what == "stall":
            hub.closed.wait()
        if fault.what == "expire":
            hub.links.clear()
        if fault.what == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault.what in ("cut", "reset", "stall", "expire"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR) if fault.what != "reset" else self.connection.close()
