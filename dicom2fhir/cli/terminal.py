"""Progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dicom2fhir.system.terminal import Lines


@contextmanager
def progress_on_stderr() -> Iterator[Lines]:
    """Lines and, on a terminal, progress bars, while something is under way that takes long."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    # here: to load what draws takes longer than to convert a hundred files
    from dicom2fhir.cli.progress_bars import Bars

    with Bars() as bars:
        yield bars
