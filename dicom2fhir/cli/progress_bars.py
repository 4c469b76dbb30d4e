"""Progress bars."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from dicom2fhir.cli.output import Page
from dicom2fhir.system.terminal import Lines
from dicom2fhir.system.text import printable


def progress(console: Console, *columns: ProgressColumn) -> Progress:
    """A progress bar, on a terminal only; ``columns`` come before the remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


class Bars(Lines):
    """One bar for each step, below the lines."""

    def __init__(self) -> None:
        self._console = Page(stderr=True)
        self._progress = progress(self._console)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Write a line above the bars."""
        self._console.print(Text(printable(line)), soft_wrap=True)

    def begin(self, step: str, total: int) -> None:
        """Add a bar below the others."""
        self._progress.add_task(step, total=total)

    def advance(self) -> None:
        """Advance the last bar."""
        self._progress.advance(self._progress.task_ids[-1])

    def stop(self) -> None:
        """Remove the bars."""
        self._progress.stop()
