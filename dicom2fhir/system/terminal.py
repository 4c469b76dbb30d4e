"""The standard streams, which may be closed, have a limited encoding, or lose their reader."""

from __future__ import annotations

import io
import os
import sys

import click

from dicom2fhir.system.text import printable

_CLOSED = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
"""How a closed stream is replaced: reading standard input or writing standard output is then an error (EBADF), and
messages on standard error are lost."""


def prepare() -> None:
    """Make the streams usable before anything is written.

    A closed descriptor is opened on the null device: otherwise a file that is opened later would get its number, and
    output for the stream would be written into that file. Characters that the encoding does not have are escaped.
    """
    for name, mode, flags in _CLOSED:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode, encoding="utf-8"))  # noqa: SIM115 (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> OSError | None:
    """Flush the streams; returns the error if that fails.

    The output is dropped then, so that the interpreter does not try again at exit.
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
    """Progress without a terminal: only lines, no bars."""

    def say(self, line: str) -> None:
        """Write one line; unprintable characters are escaped, because file names may contain line breaks."""
        click.echo(printable(line), err=True)

    def begin(self, step: str, total: int) -> None:
        """Begin a step with ``total`` parts."""

    def advance(self) -> None:
        """Count one part as done."""

    def stop(self) -> None:
        """Stop showing progress."""
