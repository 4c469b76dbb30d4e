"""``python -m dicom2fhir`` is ``dicom2fhir``.

Worker processes of ``backfill`` load the program's main module again; what they do not need is loaded in :func:`main`.
"""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    from dicom2fhir import cli

    # what is loaded by now stays; to look through it for garbage again and again takes a sixth of convert's time
    gc.freeze()
    cli.main()


if __name__ == "__main__":
    main()
