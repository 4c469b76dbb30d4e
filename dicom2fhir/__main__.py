"""``python -m dicom2fhir`` is ``dicom2fhir``.

Worker processes of ``backfill`` load the program's main module again; what they do not need is loaded in :func:`main`.
"""

from __future__ import annotations

import gc

_COLLECT_EVERY = 50_000
"""New objects after which Python looks for garbage cycles; its 700 are for less memory than anybody has now."""


def main() -> None:
    """Run the command line."""
    # nothing that is loaded becomes garbage; to look through it again and again takes a sixth of the time
    gc.set_threshold(_COLLECT_EVERY)
    from dicom2fhir import cli

    try:
        cli.main()
    finally:
        gc.freeze()  # nor at the end: it goes with the process


if __name__ == "__main__":
    main()
