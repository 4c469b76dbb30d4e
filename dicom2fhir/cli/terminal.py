"""Progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dicom2fhir.system.terminal import Lines


@contextmanager
def progress_on_stderr() -> Iterator[Lines]:
    """Lines and, on a terminal, progress bars, during long work."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    # imported here: rich takes longer to load than a hundred files to convert
    from dicom2fhir.cli.progress_bars import Bars

    with Bars() as bars:
        yield bars
