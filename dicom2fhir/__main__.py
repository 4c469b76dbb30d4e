"""``python -m dicom2fhir`` is ``dicom2fhir``.

Worker processes of ``backfill`` load the program's main module again; what they do not need is loaded in :func:`main`.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from dicom2fhir import cli

    cli.main()


if __name__ == "__main__":
    main()
