"""``python -m tests.clock_set``: the bridge on a machine whose wall clock is set while it runs.

The file that ``CLOCK_STEP_FILE`` names holds the seconds by which it is off. libfaketime cannot stand in for this:
where the monotonic clock stays as it is, ``time.sleep`` fails under it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

if __name__ == "__main__":
    step_file = Path(os.environ["CLOCK_STEP_FILE"])
    true_time = time.time
    time.time = lambda: true_time() + float(step_file.read_text())
    from dicom2fhir.cli import main

    main()
