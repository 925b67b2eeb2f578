"""How the lower floors tell what they are doing. Only the console (cli/console.py) prints."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """The narration of one command. Every method may be called from any floor and never raises."""

    def say(self, text: str) -> None:
        """One line of narration: what is being done now. Silenced by --quiet."""
        ...

    def detail(self, text: str) -> None:
        """A line that only --verbose shows."""
        ...

    def warn(self, text: str) -> None:
        """Something the user should know and that did not stop the command."""
        ...

    def progress(self, label: str, done: int, total: int | None) -> None:
        """Bytes done of total; drawn only on a terminal. `done == total` ends the bar."""
        ...


class SilentReporter:
    """A Reporter that reports nothing."""

    def say(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, label: str, done: int, total: int | None) -> None: ...
