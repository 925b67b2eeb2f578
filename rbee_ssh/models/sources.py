"""What is asked of the hub or of a URL's server: what a reference means, links for a node, a header."""

from __future__ import annotations

from collections.abc import Sequence

from rbee_ssh.concurrency import in_daemon_thread
from rbee_ssh.inventory import Timeouts
from rbee_ssh.models.gguf import Gguf
from rbee_ssh.models.reference import HubRef, UrlRef
from rbee_ssh.models.remote import Remote
from rbee_ssh.reporter import Reporter


async def resolve(ref: HubRef | UrlRef, timeouts: Timeouts, reporter: Reporter) -> Remote:
    """What `ref` means now.

    Raises:
        ModelNotFound, ModelForbidden, ModelAmbiguous, ModelInvalid, DownloadFailed: as hub.py and web.py.
    """
    if isinstance(ref, HubRef):
        from rbee_ssh.models import hub

        reporter.detail(f"asking the hub for {ref.display}")
        return await hub.resolve(ref, timeouts, reporter)
    from rbee_ssh.models import web

    return await web.resolve(ref, timeouts, reporter)


async def links(remote: Remote, timeouts: Timeouts, reporter: Reporter) -> Sequence[str] | None:
    """The URL of each file, for a node; None when only a token opens one of them.

    Raises:
        ModelNotFound, ModelForbidden, DownloadFailed: as hub.links.
    """
    if isinstance(remote.ref, UrlRef):
        return [remote.ref.url]
    from rbee_ssh.models import hub

    return await hub.links(remote, remote.ref, timeouts, reporter)


async def header(remote: Remote, timeouts: Timeouts, reporter: Reporter) -> Gguf | None:
    """The header of the model, read where it is; None when only a token opens it, or it does not come.

    Raises:
        ModelInvalid: no GGUF, or cut short.
        ModelNotFound, ModelForbidden, DownloadFailed: as hub.links.
    """
    found = await links(remote, timeouts, reporter)
    if found is None:
        return None
    from rbee_ssh.models import web

    return await in_daemon_thread(lambda: web.header(found[0], remote.files[0].size, remote.ref.display))
