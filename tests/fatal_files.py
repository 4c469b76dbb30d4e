"""What a worker of :mod:`tests.dask_cluster` loads: files by whose names it ends, as by a lack of memory, or waits."""

from __future__ import annotations

import os
import signal
import threading
from typing import BinaryIO

from dicom2fhir.jobs import backfill_sources
from dicom2fhir.receive.folder.files import open_file

FATAL, ENDLESS = "fatal.dcm", "endless.dcm"
_ENDLESS_S = 60.0


def _open(path: str) -> BinaryIO:
    if path.endswith(FATAL):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.endswith(ENDLESS):
        threading.Event().wait(_ENDLESS_S)
    return open_file(path)


def dask_setup(_worker: object) -> None:
    """Called by Dask in each worker."""
    vars(backfill_sources)["open_file"] = _open
