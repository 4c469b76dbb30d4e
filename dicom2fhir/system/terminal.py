"""The standard streams as a shell may hand them over: closed, of a narrow encoding, or with a reader that leaves."""

from __future__ import annotations

import io
import os
import sys

import click

from dicom2fhir.system.text import printable

_CLOSED = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
"""How a closed stream is replaced: to read standard input or to write standard output is then an error (EBADF), and
messages on standard error are lost."""


def prepare() -> None:
    """Make the streams usable before anything is written.

    A descriptor that the caller closed is taken by the null device: a file of ours would get its number otherwise, and
    what is meant for the stream would be written into the file. Characters that the encoding of a stream does not have
    are escaped.
    """
    for name, mode, flags in _CLOSED:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))  # noqa: SIM115 (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> OSError | None:
    """Write what is still held back; the error when it cannot be written.

    It is dropped then, so that the interpreter does not try once more at its end.
    """
    lost = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            lost = lost or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return lost


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
