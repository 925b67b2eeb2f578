"""A model of the hub or of a URL to one node: fetched by the node itself, or here and sent on."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence

from rbee_ssh.errors import DiskFull, ModelNotFound, UsageInvalid
from rbee_ssh.inventory import Node
from rbee_ssh.models import deliver, sources
from rbee_ssh.models.deliver import Origin
from rbee_ssh.models.fetch import FetchedModel, NoLink, fetch, find
from rbee_ssh.models.fetch_failure import THIS_MACHINE
from rbee_ssh.models.outgoing import Outgoing, remembered
from rbee_ssh.models.receiver import Later
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.remote import Remote
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import Reporter
from rbee_ssh.ssh.connection import Connection
from rbee_ssh.ssh.connector import Connector
from rbee_ssh.ssh.quote import quote

HERE = Node(THIS_MACHINE, "localhost")


async def pull(
    connection: Connection,
    remote: Remote,
    models_dir: str,
    registry: Registry,
    reporter: Reporter,
    *,
    via_here: bool = False,
    detach: bool = False,
) -> FetchedModel:
    """Have the model on the node, whole. What only a token opens goes through this machine, and that is said.

    Raises:
        RbeeError: as fetch.fetch, and as deliver.deliver where it goes through here.
    """
    if not via_here:
        with contextlib.suppress(NoLink):
            return await _fetched(connection, remote, models_dir, reporter, detach=detach)
        if detach:
            named = quote(remote.ref.display)
            raise UsageInvalid(
                f"{remote.ref.display}: the hub gives it to a token only, so it goes through this machine",
                hint=f"rbee models pull {named} --node {connection.name}   # without --detach",
            )
        reporter.say(f"the hub gives {remote.name} to a token only: it goes through this machine")
    there = await find(connection, remote, models_dir, reporter)
    if there is not None:
        return there
    files = []
    for file, path in zip(remote.files, await _here(remote, reporter, connection), strict=True):
        status = os.stat(path)
        stamp = (path, status.st_size, status.st_mtime_ns)
        sha256 = file.sha256 or await remembered(stamp, registry)
        files.append(Outgoing(stamp, registry, sha256, name=file.name))
    # The first part of a split model last: where it is, all are.
    for at in reversed(range(len(files))):
        file = remote.files[at]
        origin = Origin(file.place, remote.note(file, int(time.time())))
        place = file.place if len(files) > 1 else None
        later = tuple(Later(remote.files[n].place, files[n].key, files[n].size) for n in range(at))
        try:
            placed = await deliver.deliver(
                connection, files[at], models_dir, reporter, place=place, later=later, origin=origin
            )
        finally:
            await files[at].close()
    return FetchedModel(placed.path, remote.size or placed.size, placed.mtime)


async def _fetched(
    connection: Connection, remote: Remote, models_dir: str, reporter: Reporter, *, detach: bool = False
) -> FetchedModel:
    async def links() -> Sequence[str] | None:
        return await sources.links(remote, connection.timeouts, reporter)

    return await fetch(connection, remote, models_dir, links, reporter, detach=detach)


async def _here(remote: Remote, reporter: Reporter, connection: Connection) -> list[str]:
    """The files on this machine: in the hub's cache, or in the store of this machine as a node.

    Raises:
        RbeeError: as hub_cache.download, and as fetch.fetch.
        DiskFull: this machine's.
    """
    timeouts = connection.timeouts
    if isinstance(remote.ref, HubRef):
        from rbee_ssh.models.hub_cache import download

        try:
            return [await download(remote, remote.ref, file, timeouts, reporter) for file in remote.files]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"the disk of this machine filled while {remote.name} was fetched",
                    hint="free some space, or set HF_HOME",
                    details={"path": error.filename},
                ) from error
            raise ModelNotFound(
                f"{remote.ref.display}: the cache of this machine cannot be used: {error.strerror}",
                hint="set HF_HOME to a directory of yours",
                details={"path": error.filename},
            ) from error
    wire = Connector({HERE.name: HERE}, timeouts)
    here = await wire.connect(HERE)
    try:
        return [(await _fetched(here, remote, HERE.models_dir, reporter)).path]
    finally:
        await here.close()
        await wire.close()
