"""What is asked of the hub or of a URL's server: what a reference means, links for a node, a header."""

from __future__ import annotations

from collections.abc import Sequence

from rbee_ssh.inventory import Timeouts
from rbee_ssh.models.aside import aside
from rbee_ssh.models.gguf import Gguf
from rbee_ssh.models.refs import HubRef, UrlRef
from rbee_ssh.models.remote import Remote
from rbee_ssh.story import Story


async def resolve(ref: HubRef | UrlRef, timeouts: Timeouts, story: Story) -> Remote:
    """What `ref` means now.

    Raises:
        ModelNotFound, ModelForbidden, ModelAmbiguous, ModelInvalid, DownloadFailed: as hub.py and web.py.
    """
    if isinstance(ref, HubRef):
        from rbee_ssh.models import hub

        story.detail(f"asking the hub for {ref.display}")
        return await hub.resolve(ref, timeouts, story)
    from rbee_ssh.models import web

    return await web.resolve(ref, timeouts, story)


async def links(remote: Remote, timeouts: Timeouts, story: Story) -> Sequence[str] | None:
    """The URL of each file, for a node; None when only a token opens one of them.

    Raises:
        ModelNotFound, ModelForbidden, DownloadFailed: as hub.links.
    """
    if isinstance(remote.ref, UrlRef):
        return [remote.ref.url]
    from rbee_ssh.models import hub

    return await hub.links(remote, remote.ref, timeouts, story)


async def header(remote: Remote, timeouts: Timeouts, story: Story) -> Gguf | None:
    """The header of the model, read where it is; None when only a token opens it, or it does not come.

    Raises:
        ModelInvalid: no GGUF, or cut short.
        ModelNotFound, ModelForbidden, DownloadFailed: as hub.links.
    """
    found = await links(remote, timeouts, story)
    if found is None:
        return None
    from rbee_ssh.models import web

    return await aside(lambda: web.header(found[0], remote.files[0].size, remote.ref.display))
