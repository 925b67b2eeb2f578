"""Runs on a node that has neither curl nor wget: fetches one URL, given on standard input, into a file.

    node_downloader.py FILE OFFSET STALL_SECONDS ETAG

Prints the HTTP status. Exit statuses are curl's: 0, 22 (an HTTP error), 23 (the file cannot be written), 33
(the server does not continue at OFFSET), 47 (redirects), 56 (anything else of the network).
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import IO


def inward(url: str) -> bool:
    """Whether a URL leads to the machine that asks, or to what only its own wire reaches: loopback and
    link-local addresses, however written; a cloud's metadata are among them. Names are not looked up."""
    host = (urllib.parse.urlsplit(url).hostname or "").rstrip(".").partition("%")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
        except (OSError, UnicodeError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified


class Redirects(urllib.request.HTTPRedirectHandler):
    """At most five, to http or https, from https only to https, and inward only from there."""

    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        wanted = ("https:",) if req.full_url.lower().startswith("https:") else ("http:", "https:")
        if not newurl.lower().startswith(wanted) or (inward(newurl) and not inward(req.full_url)):
            raise urllib.error.HTTPError(req.full_url, 310, "redirect refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def main(path: str, offset: int, stall: float, etag: str) -> int:
    request = urllib.request.Request(sys.stdin.readline().strip())  # noqa: S310 # http and https only
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if etag:
            request.add_header("If-Range", f'"{etag}"')
    opener = urllib.request.build_opener(Redirects())
    try:
        answer = opener.open(request, timeout=stall)
    except urllib.error.HTTPError as error:
        print(error.code)  # noqa: T201
        return 47 if error.code // 100 == 3 else 22
    with answer:
        print(answer.status)  # noqa: T201
        if offset and answer.status != 206:
            return 33
        length = answer.headers.get("Content-Length")
        left = int(length) if length else 0
        with open(path, "ab" if offset else "wb", buffering=0) as file:
            while data := answer.read1(1 << 18):
                left -= len(data)
                if not written(file, data):
                    return 23
    return 56 if left > 0 else 0


def written(file: IO[bytes], data: bytes) -> bool:
    """Write all of it; False when the disk is full, or the file as large as it may be."""
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
    except (OSError, ValueError, http.client.HTTPException):
        sys.exit(56)
