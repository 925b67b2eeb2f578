"""A model of the hub or of a URL to one node: fetched by the node itself, or here and sent on."""

from __future__ import annotations

from rbee_ssh.errors import DownloadFailed, UsageInvalid
from rbee_ssh.models import sources
from rbee_ssh.models.fetch import Fetched, NoLink, fetch
from rbee_ssh.models.remote import Remote
from rbee_ssh.registry import Registry
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.story import Story


async def pull(
    connection: Connection,
    remote: Remote,
    models_dir: str,
    registry: Registry,
    story: Story,
    *,
    via_here: bool = False,
    detach: bool = False,
) -> Fetched:
    """Have the model on the node, whole.

    Raises:
        RbeeError: as fetch.fetch.
    """
    timeouts = connection.timeouts
    if not via_here:
        try:
            return await fetch(
                connection,
                remote,
                models_dir,
                lambda: sources.links(remote, timeouts, story),
                story,
                detach=detach,
            )
        except NoLink:
            raise DownloadFailed(
                f"{remote.ref.display}: the hub gives it to a token only, and tokens stay on this machine",
                hint=f"rbee models pull {remote.ref.display} --node {connection.name} --via here",
                details={"reference": remote.ref.display, "node": connection.name},
            ) from None
    raise UsageInvalid("--via here is not there yet")
