"""``python -m dicom2fhir`` is ``dicom2fhir``.

Worker processes of ``backfill`` import the main module again; what they do not need is imported in :func:`main`.
"""

from __future__ import annotations

import gc

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
    finally:
        gc.freeze()  # no collection at exit: the memory goes with the process


if __name__ == "__main__":
    main()
