"""``python -m dicom2fhir`` is ``dicom2fhir``.

Worker processes of ``backfill`` import the main module again; what they do not need is imported in :func:`main`.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import NoReturn

_COLLECT_EVERY = 100_000
"""New objects after which Python looks for reference cycles; its default of 700 suits small memories. The modules of a
short command are fewer."""


def main() -> None:
    """Run the command line."""
    # imported modules never become garbage; scanning them again and again takes a sixth of the time
    gc.set_threshold(_COLLECT_EVERY)
    from dicom2fhir import cli

    try:
        cli.main()
    except SystemExit as leaving:
        _leave(leaving)


def _leave(leaving: SystemExit) -> NoReturn:
    """Exit, also with threads of a daemon that have not stopped in time, such as one that waits for a server.

    The interpreter would end them wherever they are. Inside a compiled module that calls Python, that aborts the
    process: SIGABRT instead of the status.
    """
    was_daemon = "dicom2fhir.daemon" in sys.modules
    if was_daemon and threading.active_count() > 1 and isinstance(leaving.code, int):
        os._exit(leaving.code)
    gc.freeze()  # no collection at exit: the memory goes with the process
    raise leaving


if __name__ == "__main__":
    main()
