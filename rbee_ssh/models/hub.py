"""The Hugging Face hub, asked from here through huggingface_hub: what a reference means, and a link to it.

huggingface_hub honours HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the login file. The token goes to the hub
and nowhere else: a node gets the link that the hub redirects to, which is signed for one file and expires.
What an exception of a library says is repeated only where it is the network's (`_reason`): in another one
there may stand a token that is no valid header value.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from rbee_ssh import __version__
from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.errors import DownloadFailed, ModelFault, ModelForbidden, ModelNotFound
from rbee_ssh.inventory import Timeouts
from rbee_ssh.models.node_downloader import inward
from rbee_ssh.models.quants import HubFile, choose
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.remote import Remote, RemoteFile, is_link
from rbee_ssh.models.store import hub_place
from rbee_ssh.node.untrusted_text import plain
from rbee_ssh.reporter import Reporter
from rbee_ssh.wording import has_control, without_secrets

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

LIBRARY = "rbee-ssh"  # as the hub is told
ANSWER_SECONDS = 20.0  # for one answer of the hub


async def resolve(ref: HubRef, timeouts: Timeouts, reporter: Reporter) -> Remote:
    """Ask the hub what `ref` means, in one request.

    Raises:
        ModelNotFound: no such repository, revision, file or quant.
        ModelForbidden: it is private, or its licence was not accepted.
        ModelAmbiguous: the quant rule does not decide.
        DownloadFailed: the hub does not answer, or must not be asked.
    """

    def ask(api: HfApi) -> tuple[str, list[HubFile], bool]:
        info = api.model_info(
            ref.repository, revision=ref.revision, timeout=ANSWER_SECONDS, files_metadata=True
        )
        files = [_file(one) for one in info.siblings or ()]
        return str(info.sha or ""), [f for f in files if f is not None], bool(info.private or info.gated)

    commit, files, protected = await asked(ref, ask, timeouts, reporter)
    model = choose(ref, files)
    first = model.files[0].sha256 or f"{commit:0<12}"
    return Remote(
        ref,
        f"hf:{ref.repository}/{model.path}",
        commit or None,
        tuple(
            RemoteFile(file.path, hub_place(ref.org, ref.repo, first, file.path), file.size, file.sha256)
            for file in model.files
        ),
        protected,
    )


def _file(told: Any) -> HubFile | None:
    """A file of the hub's answer, which may be anything."""
    path, size, lfs = str(told.rfilename), told.size, told.lfs
    if not isinstance(size, int) or size < 0 or has_control(path):
        return None
    sha256 = str(lfs.sha256) if lfs is not None else ""
    return HubFile(
        path, size, sha256 if len(sha256) == 64 and set(sha256) <= set("0123456789abcdef") else None
    )


async def links(remote: Remote, ref: HubRef, timeouts: Timeouts, reporter: Reporter) -> list[str] | None:
    """Where a node can fetch the files without a token, in their order; None when nowhere.

    Raises:
        ModelNotFound, ModelForbidden, DownloadFailed: as `resolve`.
        DownloadFailed: also when it leads inward (node_downloader.py), unless the hub itself is there.
    """
    refused: list[str] = []

    def ask(api: HfApi) -> list[str] | None:
        from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

        found = []
        for file in remote.files:
            url = hf_hub_url(ref.repository, file.origin, revision=remote.revision, endpoint=api.endpoint)
            location = get_hf_file_metadata(
                url,
                timeout=ANSWER_SECONDS,
                endpoint=api.endpoint,
                library_name=LIBRARY,
                library_version=__version__,
            ).location
            if inward(location) and not inward(api.endpoint):
                refused.append(urlsplit(location).netloc)
                return None
            place, hub = urlsplit(location), urlsplit(api.endpoint)
            open_to_all = not remote.protected or get_token() is None
            # What is still on the hub is not signed, and opens to a token only.
            if _server(place) == _server(hub) and not open_to_all:
                return None
            if not is_link(location) or (hub.scheme == "https" and place.scheme != "https"):
                return None
            found.append(location)
        return found

    found = await asked(ref, ask, timeouts, reporter)
    if refused:
        raise DownloadFailed(
            f"{ref.display}: the hub leads to {plain(refused[0], 100)}, an address of whoever follows it",
            hint="check HF_ENDPOINT: a hub on this machine has to be named by such an address itself",
            details={"reference": ref.display},
        )
    return found


def _server(url: SplitResult) -> tuple[str | None, int | None]:
    """Host and port, without a user; the port that the scheme has where none is given."""
    return url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _is_endpoint(text: str) -> bool:
    """Whether huggingface_hub can be imported with it; else it prints to stdout, and raises."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def asked(ref: HubRef, ask: Callable[[HfApi], T], timeouts: Timeouts, reporter: Reporter) -> T:
    """One question, asked again while the hub or the way to it is in trouble."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint and not _is_endpoint(endpoint):
        raise DownloadFailed(
            f"{ref.display}: the hub is not asked, since HF_ENDPOINT is not a URL",
            hint="export HF_ENDPOINT=https://…   # or unset HF_ENDPOINT",
            details={"reference": ref.display},
        )
    wait = timeouts.download_wait
    for number in range(1, timeouts.download_tries + 1):
        try:
            return await in_daemon_thread(lambda: _quietly(ask))
        except OSError as error:
            if getattr(error, "errno", None):
                raise  # of this machine's files
            failure, again = _failure(ref, error)
        except Exception as error:
            failure, again = _failure(ref, error)
        if not again or number == timeouts.download_tries:
            raise failure
        reporter.detail(f"{failure.message}; trying again")
        await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 # jitter, no secret
        wait *= 2
    raise AssertionError("unreachable")


def _quietly(ask: Callable[[HfApi], T]) -> T:
    """In a thread: the library takes a while to import, and its calls wait for the network."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import logging

    # It would ask the hub for a list of programs, to tell the hub by which of them it is run.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    logging.set_verbosity(40)  # errors; a warning would repeat signed links
    return ask(HfApi(library_name=LIBRARY, library_version=__version__))


def _reason(error: Exception) -> str:
    """Of no answer, as the network tells it. Of what else there is, only the name: it may quote a header."""
    # By name: huggingface_hub has changed its HTTP client before. And it wraps what a download fails with.
    cause: BaseException | None = error
    for _ in range(4):
        if cause is not None and type(cause).__name__ in ("ConnectError", "ConnectionError", "ReadError"):
            return re.sub(r"^\[Errno -?\d+\] ", "", plain(str(cause), 200)) or type(cause).__name__
        cause = cause and (cause.__cause__ or cause.__context__)
    return type(error).__name__


def _failure(ref: HubRef, error: Exception) -> tuple[ModelFault, bool]:
    """The error that the user is shown, and whether another try may help."""
    from huggingface_hub import constants, errors, get_token

    endpoint = without_secrets(constants.ENDPOINT)
    details: dict[str, Any] = {"reference": ref.display, "endpoint": endpoint}
    page = f"{endpoint}/{ref.repository}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            DownloadFailed(
                f"{ref.display}: the hub is not asked, since HF_HUB_OFFLINE is set",
                hint="unset HF_HUB_OFFLINE   # or name a file of the node: file:///…",
                details=details,
            ),
            False,
        )
    if status is not None:
        details["status"] = status
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        token = get_token() is not None
        what = (
            "its licence is not accepted by this account"
            if isinstance(error, errors.GatedRepoError) and token
            else "the token does not open it, or there is no such repository"
            if token
            else "it is private or gated and there is no token, or there is no such repository"
        )
        return (
            ModelForbidden(
                f"{ref.display}: the hub refuses it ({status}): {what}",
                hint=f"accept the licence at {page}" + ("" if token else ", then: export HF_TOKEN=hf_…"),
                details=details,
            ),
            False,
        )
    if isinstance(error, errors.RevisionNotFoundError):
        message = f"{ref.display}: the repository has no revision {ref.revision}"
        return ModelNotFound(message, hint=f"see {page}/tree/main", details=details), False
    if status == 404:
        message = f"{ref.display}: the hub has no such repository or file (404)"
        return ModelNotFound(message, hint=f"see {page}", details=details), False
    if status is not None and status < 500 and status not in (408, 429):
        return DownloadFailed(f"{ref.display}: the hub answered {status}", details=details), False
    why = f"answered {status}" if status is not None else f"does not answer: {_reason(error)}"
    return (
        DownloadFailed(
            f"{ref.display}: the hub at {endpoint} {why}",
            hint="check the network, HF_ENDPOINT and the proxy; a file on the node needs no hub: file:///…",
            details=details,
        ),
        True,
    )
