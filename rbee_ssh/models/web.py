"""A model behind an https URL, asked about from here: how long it is, whether it is one, its version.

The node may get through where this machine does not: what is not told here is no error.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass

from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.errors import DownloadFailed, ModelForbidden, ModelInvalid, ModelNotFound
from rbee_ssh.inventory import Timeouts
from rbee_ssh.models.gguf import MAX_HEADER, Gguf
from rbee_ssh.models.header import read
from rbee_ssh.models.node_downloader import Redirects
from rbee_ssh.models.reference import UrlRef
from rbee_ssh.models.remote import Remote, RemoteFile
from rbee_ssh.models.store import url_place
from rbee_ssh.reporter import Reporter

ANSWER_SECONDS = 10.0
LARGEST = 2**60  # bytes; where nobody tells how many there are

_RANGE = re.compile(r"bytes 0-3/([0-9]{1,18})")
_STRONG = re.compile(r'"([!#-\[\]-~]{1,200})"')  # a weak ETag is no ground to join two halves


@dataclass(frozen=True, slots=True)
class UrlMetadata:
    """What a server says: HTTP status (0: it does not answer), bytes, ETag without quotes, the first four."""

    status: int
    size: int | None = None
    etag: str | None = None
    head: bytes = b""


async def resolve(ref: UrlRef, timeouts: Timeouts, reporter: Reporter) -> Remote:
    """Ask the server about the file, and read its first four bytes.

    Raises:
        ModelNotFound: 404 or 410.
        ModelForbidden: 401 or 403.
        ModelInvalid: it does not begin as a GGUF file does.
        DownloadFailed: it is redirected too often, to what is not https, or inward (node_downloader.py).
    """
    told = await in_daemon_thread(lambda: _ask(ref.url))
    details = {"reference": ref.display, "status": told.status}
    if told.status in (404, 410):
        raise ModelNotFound(f"{ref.display}: the server has no such file ({told.status})", details=details)
    if told.status in (401, 403):
        raise ModelForbidden(
            f"{ref.display}: the server refuses it ({told.status})",
            hint="fetch it with the program that may, then: rbee models push ./FILE.gguf",
            details=details,
        )
    if told.status // 100 == 3:
        raise DownloadFailed(
            f"{ref.display}: the server redirects too often, to what is not https, or to whoever asks it",
            hint="name the URL that it leads to",
            details=details,
        )
    if told.head and told.head != b"GGUF":
        raise ModelInvalid(
            f"{ref.display} is not a GGUF file",
            hint="the URL has to lead to the file itself, not to a page about it",
            details=details,
        )
    if told.size is None:
        reporter.detail(f"{ref.display}: this machine learns nothing about it; the node may")
    place = url_place(ref.url, ref.sha256, ref.name)
    return Remote(ref, ref.display, told.etag, (RemoteFile(ref.display, place, told.size, ref.sha256),))


def header(url: str, size: int | None, shown: str) -> Gguf | None:
    """The header of the file, in little more than its bytes; None when the server does not give it.

    Raises:
        ModelInvalid: no GGUF, or cut short.
    """
    wanted = {"Range": f"bytes=0-{MAX_HEADER - 1}"}
    request = urllib.request.Request(url, headers=wanted)  # noqa: S310 # a link, see remote
    try:
        with urllib.request.build_opener(Redirects()).open(request, timeout=ANSWER_SECONDS) as answer:
            return read(answer, size or LARGEST, shown)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _ask(url: str) -> UrlMetadata:
    """Not a HEAD: a signed URL is signed for GET."""
    request = urllib.request.Request(url, headers={"Range": "bytes=0-3"})  # noqa: S310 # https, see refs
    try:
        with urllib.request.build_opener(Redirects()).open(request, timeout=ANSWER_SECONDS) as answer:
            ranged = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            length = answer.headers.get("Content-Length", "")
            etag = _STRONG.fullmatch(answer.headers.get("ETag", ""))
            size = ranged[1] if ranged else length if answer.status == 200 else ""
            return UrlMetadata(
                answer.status,
                int(size) if re.fullmatch("[0-9]{1,18}", size) else None,
                etag[1] if etag else None,
                answer.read(4),
            )
    except urllib.error.HTTPError as error:
        return UrlMetadata(error.code)
    except (OSError, ValueError, http.client.HTTPException):
        return UrlMetadata(0)
