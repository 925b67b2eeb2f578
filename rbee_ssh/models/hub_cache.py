"""Files of the hub in the cache of this machine, where every program that uses huggingface_hub finds them."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rbee_ssh.inventory import Timeouts
from rbee_ssh.models.hub import ANSWER_SECONDS, asked
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.remote import Remote, RemoteFile
from rbee_ssh.reporter import Reporter

if TYPE_CHECKING:
    from huggingface_hub import HfApi


async def download(
    remote: Remote, ref: HubRef, file: RemoteFile, timeouts: Timeouts, reporter: Reporter
) -> str:
    """Fetch a file into the hub's cache, or find it there; its path.

    Raises:
        ModelNotFound, ModelForbidden, DownloadFailed: as hub.resolve.
        OSError: this disk is full, or cannot be written.
    """
    unwanted = threading.Event()

    class Bar(_Bar):
        def __init__(self, **settings: Any) -> None:
            super().__init__(
                f"fetching {file.name}", file.size, reporter, unwanted, settings.get("initial", 0)
            )

    def ask(api: HfApi) -> str:
        bar: Any = Bar
        return str(
            api.hf_hub_download(
                ref.repository,
                file.origin,
                revision=remote.revision,
                tqdm_class=bar,
                etag_timeout=ANSWER_SECONDS,
            )
        )

    try:
        return await asked(ref, ask, timeouts, reporter)
    finally:
        unwanted.set()  # a thread cannot be cancelled: the next piece that comes in ends it


class _Bar:
    """As much of a tqdm bar as huggingface_hub uses."""

    def __init__(
        self, label: str, total: int | None, reporter: Reporter, unwanted: threading.Event, initial: int
    ) -> None:
        self.label, self.total, self.n = label, total, initial
        self._story, self._unwanted = reporter, unwanted

    def update(self, count: float | None = 1) -> None:
        if self._unwanted.is_set():
            raise InterruptedError("nobody waits for this file any more")
        self.n += int(count or 0)
        self._story.progress(self.label, self.n, self.total)

    def update_transfer(self, count: float | None = 1) -> None: ...

    def set_postfix_str(self, *_: Any, **__: Any) -> None: ...

    def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None: ...

    def refresh(self, *_: Any, **__: Any) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
