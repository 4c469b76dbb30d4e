"""A bridge from DICOM to FHIR: C-STORE and folders in, ImagingStudy on a FHIR server out.

For other programs it has two functions, :func:`convert` and :func:`explain`. They are imported when they are first
used: the daemon and most commands do without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicom2fhir.api import convert, explain

__version__ = "0.2.0"
__all__ = ["__version__", "convert", "explain"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dicom2fhir import api

    return getattr(api, name)
