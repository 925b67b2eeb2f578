"""What is drawn over and over on a terminal, by rich: a transfer's line, and the whole screen of `--watch`.

Imported when it is first drawn: rich takes 45 to 70 ms. What a node sent is made harmless, and never markup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from rich.console import Console as Terminal
from rich.console import ConsoleDimensions, Group
from rich.live import Live
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from rbee_ssh.cli.text import clean_line, fit, size, span, width

_REDRAW = 0.1  # seconds: more often costs the transfer, and nobody reads faster
_STYLES = {"title": "bold", "bad": "red", "": ""}
_OURS_ALONE: dict[str, Any] = {"auto_refresh": False, "redirect_stdout": False, "redirect_stderr": False}


class _Cursor(Terminal):
    def show_cursor(self, show: bool = True) -> bool:
        """Left alone: whoever ends the process by a second Ctrl+C would be left without one."""
        return False


def _terminal(kind: type[Terminal], write: Callable[[str], None], *, colour: bool = False) -> Terminal:
    return kind(
        file=SimpleNamespace(write=write, flush=lambda: None),  # type: ignore[arg-type]
        force_terminal=True,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={},
    )


class TransferBar:
    """Bytes on their way, as a line at the bottom of a terminal that leaves no trace.

    Args:
        write: puts text on the terminal.
        columns: its width.
        clock: seconds on a clock that only goes forward.
    """

    def __init__(
        self, write: Callable[[str], None], columns: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._drawn: float | None = None
        terminal = _terminal(_Cursor, write)
        # A terminal wraps a line that fills it to its last column.
        terminal.size = ConsoleDimensions(columns - 1, 2)
        self._progress = Progress(
            _Line(columns - 1), console=terminal, transient=True, get_time=clock, **_OURS_ALONE
        )

    def draw(self, label: str, done: int, total: int | None) -> None:
        """Bytes done of total. The last call, with both equal, leaves one line that says how long it took."""
        progress, tasks = self._progress, self._progress.tasks
        if not tasks or tasks[0].description != label:
            for earlier in tasks:
                progress.remove_task(earlier.id)
            # What was there before, as after a resumed download, says nothing about the speed.
            progress.add_task(label, completed=done, total=total)
        (task,) = progress.tasks
        progress.update(task.id, completed=done, total=total)
        now = self._clock()
        if done == total:
            self.clear()
            progress.remove_task(task.id)
            progress.print(
                _line(label, f"{size(done)} in {span(task.elapsed or 0.0)}", progress.console.width)
            )
        elif self._drawn is None or now - self._drawn >= _REDRAW:
            if self._drawn is None:
                progress.start()
            else:
                progress.refresh()
            self._drawn = now

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._drawn is not None:
            self._drawn = None
            self._progress.stop()


class _Line(ProgressColumn):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self._columns = columns

    def render(self, task: Task) -> Text:
        return _line(task.description, numbers(task), self._columns)


def numbers(task: Task) -> str:
    """What the line says of a transfer: its share, and after a second its speed and how long it will take."""
    done, total = int(task.completed), task.total
    parts = [size(done) if total is None else f"{100 * done // max(int(total), 1)}% of {size(int(total))}"]
    if task.speed and (task.elapsed or 0) >= 1:
        parts.append(f"{size(int(task.speed))}/s")
        if task.time_remaining:
            parts.append(f"{span(round(task.time_remaining))} left")
    return ", ".join(parts)


def _line(label: str, figures: str, columns: int) -> Text:
    """Both, as far as they fit; the label is cut first, the figures are what changes."""
    room = max(columns - width(figures) - 2, 1)
    return Text(fit(f"{fit(clean_line(label), room)}: {figures}", columns), no_wrap=True)


class Screen:
    """A whole terminal, as `top` has it; as it was before when that ends. A context manager.

    Args:
        write: puts text on the terminal.
        size: its columns and lines, now.
        colour: whether it may have colours.
    """

    def __init__(
        self, write: Callable[[str], None], size: Callable[[], tuple[int, int]], *, colour: bool
    ) -> None:
        self.size = size
        self._terminal = _terminal(Terminal, write, colour=colour)
        self._live = Live(console=self._terminal, screen=True, **_OURS_ALONE)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show these lines, each with its tone, in place of what was there; what is too much is left out."""
        self._terminal.size = ConsoleDimensions(*self.size())
        shown = (
            Text(clean_line(text), _STYLES[tone], no_wrap=True, overflow="ellipsis") for text, tone in lines
        )
        self._live.update(Group(*shown), refresh=True)
