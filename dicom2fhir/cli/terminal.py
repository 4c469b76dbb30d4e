"""Standard error, for people: lines, and progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from dicom2fhir.system.text import printable


class Lines:
    """Where nobody watches, progress is not shown."""

    def say(self, line: str) -> None:
        """Write one line, whatever is in it: names of files may hold line breaks."""
        click.echo(printable(line), err=True)

    def begin(self, step: str, total: int) -> None:
        """A step of so many parts begins."""

    def advance(self) -> None:
        """One part more is done."""

    def stop(self) -> None:
        """Show no progress from here on."""


@contextmanager
def screen() -> Iterator[Lines]:
    """Standard error, while something is under way that takes long."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    # here: to load what draws takes longer than to convert a hundred files
    from dicom2fhir.cli.progress_bars import Bars

    with Bars() as bars:
        yield bars
